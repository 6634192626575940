/*
 * audit_verify.c
 *		Recomputes the audit log: the hash of every record, every block and every
 *		link of the chains, and names the first record that is not what was sealed.
 *
 * Records and blocks are read side by side, by entity and id, in one snapshot,
 * so that what is written meanwhile raises no alarm.  A block's leaves say which
 * record is not the sealed one; they are believed only where they give its root.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "audit/audit_private.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define HASH BILLING_AUDIT_HASH_LENGTH
#define FETCH_RECORDS 1000
/* How far ahead a record is looked for among the leaves, when some before it are missing. */
#define LOOK_AHEAD 1024

#define RECORD_COLUMNS                                                                            \
	"SELECT entity_id, audit_id, recorded_at, transaction_id, actor, login, action, object_type," \
	" object_id, before, after, reason, client_address, application, correlation_id, hash"        \
	" FROM billing.audit_log "
#define BLOCKS "SELECT" BILLING_AUDIT_BLOCK_COLUMNS ", leaves FROM billing.audit_block "

/* $1 entity */
static BillingStatement records_of_entity = {
	RECORD_COLUMNS "WHERE entity_id = $1 ORDER BY entity_id, audit_id", 1, { INT4OID }, NULL
};
static BillingStatement blocks_of_entity = {
	BLOCKS "WHERE entity_id = $1 ORDER BY entity_id, block_no", 1, { INT4OID }, NULL
};
static BillingStatement all_records = {
	RECORD_COLUMNS "ORDER BY entity_id, audit_id", 0, { 0 }, NULL
};
static BillingStatement all_blocks = { BLOCKS "ORDER BY entity_id, block_no", 0, { 0 }, NULL };

/* An invariant: how often it is broken, and where first. */
typedef struct Finding
{
	const char *invariant;
	int64 violations;
	char *example;
} Finding;

enum
{
	RECORDS_HAVE_HASHES,
	RECORDS_ARE_SEALED,
	BLOCKS_FORM_CHAIN,
	DIGEST_IS_THERE,
	FINDINGS
};

/* The block that a digest kept outside names. */
typedef struct Digest
{
	int64 block_no; /* 0: no digest */
	char *hash;		/* in hex */
	bool is_seen;
} Digest;

/* Both streams, and what was found. */
typedef struct Verification
{
	MemoryContext result; /* where examples live */
	MemoryContext batch;  /* what the records at hand need */
	MemoryContext block_memory;
	Portal records;
	SPITupleTable *rows;
	uint64 row;
	uint64 row_count;
	bool has_record;
	int32 entity_id; /* of the record */
	int64 audit_id;
	uint8 hash[HASH];
	Portal blocks;
	bool has_block;
	BillingAuditBlock block;
	Finding findings[FINDINGS];
	Digest digest;
} Verification;

/* Count violations, and keep the first. */
static void found(Verification *v, int which, int64 violations, const char *format, ...)
	pg_attribute_printf(4, 5);

static void
found(Verification *v, int which, int64 violations, const char *format, ...)
{
	Finding *finding = &v->findings[which];
	char text[256];
	va_list args;

	finding->violations += violations;
	if (finding->example != NULL || violations == 0)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	finding->example = MemoryContextStrdup(v->result, text);
}

/* Fetch the next records. */
static void
fetch_records(Verification *v)
{
	CHECK_FOR_INTERRUPTS();
	if (v->rows != NULL)
		SPI_freetuptable(v->rows);
	MemoryContextReset(v->batch);
	SPI_cursor_fetch(v->records, true, FETCH_RECORDS);
	v->rows = SPI_tuptable;
	v->row_count = SPI_processed;
	v->row = 0;
}

/* Go to the next record, and check that it has its hash. */
static void
next_record(Verification *v)
{
	Datum values[BILLING_AUDIT_COLUMNS];
	bool nulls[BILLING_AUDIT_COLUMNS];
	MemoryContext memory;
	bytea *hash;

	if (v->row == v->row_count)
		fetch_records(v);
	v->has_record = v->row < v->row_count;
	if (!v->has_record)
		return;
	heap_deform_tuple(v->rows->vals[v->row++], v->rows->tupdesc, values, nulls);
	memory = MemoryContextSwitchTo(v->batch);
	v->entity_id = DatumGetInt32(values[AUDIT_ENTITY_ID]);
	v->audit_id = DatumGetInt64(values[AUDIT_AUDIT_ID]);
	billing_audit_record_sha256(values, nulls, v->hash);
	hash = DatumGetByteaPP(values[AUDIT_HASH]);
	if (VARSIZE_ANY_EXHDR(hash) != HASH || memcmp(v->hash, VARDATA_ANY(hash), HASH) != 0)
		found(v, RECORDS_HAVE_HASHES, 1, "audit record " INT64_FORMAT, v->audit_id);
	MemoryContextSwitchTo(memory);
}

/* Go to the next block. */
static void
next_block(Verification *v)
{
	MemoryContext memory;
	bytea *leaves;
	SPITupleTable *rows;

	SPI_cursor_fetch(v->blocks, true, 1);
	rows = SPI_tuptable;
	v->has_block = SPI_processed > 0;
	MemoryContextReset(v->block_memory);
	memory = MemoryContextSwitchTo(v->block_memory);
	if (v->has_block)
	{
		billing_audit_fetch_block(&v->block, 0);
		leaves = DatumGetByteaPCopy(billing_core_value(0, 15, NULL));
		v->block.leaves = (uint8 *) VARDATA(leaves);
		v->block.leaves_length = VARSIZE(leaves) - VARHDRSZ;
	}
	MemoryContextSwitchTo(memory);
	SPI_freetuptable(rows);
}

/* What is wrong with a block by itself and after the one before it; NULL: nothing. */
static const char *
block_fault(const BillingAuditBlock *block, const BillingAuditBlock *previous)
{
	uint8 hash[HASH];

	if (block->layout != BILLING_AUDIT_LAYOUT)
		return "has an unknown layout";
	billing_audit_block_hash(block, hash);
	if (memcmp(hash, block->hash, HASH) != 0)
		return "does not have its hash";
	if (block->block_no != previous->block_no + 1 || block->after != previous->through)
		return "does not follow the one before";
	if (block->has_previous != (previous->block_no > 0) ||
		(block->has_previous && memcmp(block->previous, previous->hash, HASH) != 0))
		return "does not have the hash of the one before";
	return NULL;
}

/* Whether the leaves of a block give its root. */
static bool
leaves_are_sound(const BillingAuditBlock *block)
{
	uint8 root[HASH];

	if (block->leaves_length != block->count * HASH)
		return false;
	billing_audit_tree_of(block->leaves, block->count, root);
	return memcmp(root, block->root, HASH) == 0;
}

/* The place of the record at hand among the leaves from one on, -1: not near. */
static int64
find_leaf(const Verification *v, int64 from)
{
	int64 end = Min(v->block.count, from + LOOK_AHEAD);
	int64 i;

	for (i = from; i < end; i++)
	{
		if (memcmp(v->block.leaves + i * HASH, v->hash, HASH) == 0)
			return i;
	}
	return -1;
}

/*
 * Compare the records of a block with its leaves.  A record that is not among
 * them was changed or added; leaves that no record matches are records that were
 * changed or deleted.
 */
static void
match_records(Verification *v)
{
	int64 leaf = 0;
	int64 strange = 0;
	int64 first = 0;

	for (; v->has_record && v->entity_id == v->block.entity_id && v->audit_id <= v->block.through;
		 next_record(v))
	{
		int64 place = find_leaf(v, leaf);

		if (place < 0)
		{
			if (strange++ == 0)
				first = v->audit_id;
			continue;
		}
		if (strange > 0)
			found(v, RECORDS_ARE_SEALED, Max(strange, place - leaf),
				  "audit record " INT64_FORMAT " is not the one that was sealed", first);
		else if (place > leaf)
			found(v, RECORDS_ARE_SEALED, place - leaf,
				  "an audit record before " INT64_FORMAT " is missing", v->audit_id);
		strange = 0;
		leaf = place + 1;
	}
	if (strange > 0)
		found(v, RECORDS_ARE_SEALED, Max(strange, v->block.count - leaf),
			  "audit record " INT64_FORMAT " is not the one that was sealed", first);
	else if (leaf < v->block.count)
		found(v, RECORDS_ARE_SEALED, v->block.count - leaf,
			  "an audit record up to " INT64_FORMAT " is missing", v->block.through);
}

/* Pass the records of a block whose leaves say nothing, and compare them with its root. */
static void
match_root(Verification *v)
{
	BillingAuditTree tree = { 0 };
	uint8 root[HASH];
	int64 first = v->has_record ? v->audit_id : v->block.after + 1;

	for (; v->has_record && v->entity_id == v->block.entity_id && v->audit_id <= v->block.through;
		 next_record(v))
		billing_audit_tree_add(&tree, v->hash);
	billing_audit_tree_root(&tree, root);
	if ((int64) tree.count != v->block.count || memcmp(root, v->block.root, HASH) != 0)
		found(v, RECORDS_ARE_SEALED, 1,
			  "audit records from " INT64_FORMAT " to " INT64_FORMAT
			  " are not those that were sealed",
			  first, v->block.through);
}

/* Check a block and its records. */
static void
check_block(Verification *v, const BillingAuditBlock *previous)
{
	const char *fault = block_fault(&v->block, previous);
	bool sound = leaves_are_sound(&v->block);
	char hex[2 * HASH + 1];

	if (fault == NULL && !sound)
		fault = "does not have the leaves of its root";
	if (fault != NULL)
		found(v, BLOCKS_FORM_CHAIN, 1, "block " INT64_FORMAT " of entity %d %s", v->block.block_no,
			  v->block.entity_id, fault);
	if (v->block.block_no == v->digest.block_no && !v->digest.is_seen)
	{
		hex[hex_encode((const char *) v->block.hash, HASH, hex)] = '\0';
		v->digest.is_seen = true;
		if (strcmp(hex, v->digest.hash) != 0)
			found(v, DIGEST_IS_THERE, 1, "block " INT64_FORMAT " has another hash",
				  v->block.block_no);
	}
	if (v->has_record && v->entity_id == v->block.entity_id && v->audit_id <= v->block.after)
		found(v, RECORDS_ARE_SEALED, 1, "audit record " INT64_FORMAT " is in no block",
			  v->audit_id);
	if (sound)
		match_records(v);
	else
		match_root(v);
}

/* Check an entity: its blocks with their records, then the records that wait to be sealed. */
static void
check_entity(Verification *v, int32 entity_id)
{
	BillingAuditBlock previous = { 0 };

	while (v->has_block && v->block.entity_id == entity_id)
	{
		check_block(v, &previous);
		/* only what the next one refers to outlives the block */
		previous.block_no = v->block.block_no;
		previous.through = v->block.through;
		memcpy(previous.hash, v->block.hash, HASH);
		next_block(v);
	}
	while (v->has_record && v->entity_id == entity_id)
	{
		if (v->audit_id <= previous.through)
			found(v, RECORDS_ARE_SEALED, 1, "audit record " INT64_FORMAT " is in no block",
				  v->audit_id);
		next_record(v);
	}
}

/* Check one entity, or all that the caller sees.  Inside SPI. */
static void
verify(Verification *v, const int32 *entity)
{
	Datum values[1] = { Int32GetDatum(entity == NULL ? 0 : *entity) };

	v->batch = AllocSetContextCreate(CurrentMemoryContext, "audit records", ALLOCSET_DEFAULT_SIZES);
	v->block_memory =
		AllocSetContextCreate(CurrentMemoryContext, "audit block", ALLOCSET_DEFAULT_SIZES);
	v->records = entity == NULL ? billing_core_open(&all_records, NULL, NULL)
								: billing_core_open(&records_of_entity, values, NULL);
	v->blocks = entity == NULL ? billing_core_open(&all_blocks, NULL, NULL)
							   : billing_core_open(&blocks_of_entity, values, NULL);
	next_record(v);
	next_block(v);
	while (v->has_record || v->has_block)
		check_entity(v, !v->has_block	 ? v->entity_id
						: !v->has_record ? v->block.entity_id
										 : Min(v->entity_id, v->block.entity_id));
	if (v->digest.block_no != 0 && !v->digest.is_seen)
		found(v, DIGEST_IS_THERE, 1, "block " INT64_FORMAT " is missing", v->digest.block_no);
	SPI_cursor_close(v->records);
	SPI_cursor_close(v->blocks);
}

/* Return what was found, one row per invariant. */
static void
return_findings(FunctionCallInfo fcinfo, const Verification *v)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int i;

	for (i = 0; i < FINDINGS; i++)
	{
		const Finding *finding = &v->findings[i];
		Datum values[3];
		bool nulls[3] = { false, false, finding->example == NULL };

		if (i == DIGEST_IS_THERE && v->digest.block_no == 0)
			continue;
		values[0] = CStringGetTextDatum(finding->invariant);
		values[1] = Int64GetDatum(finding->violations);
		values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(finding->example);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* A member of the digest as text; raises ZB001 where it is not there. */
static char *
digest_member(Jsonb *digest, const char *name)
{
	JsonbValue value;
	JsonbValue *member =
		JB_ROOT_IS_OBJECT(digest)
			? getKeyJsonValueFromContainer(&digest->root, name, strlen(name), &value)
			: NULL;

	if (member != NULL && member->type == jbvString)
		return pnstrdup(member->val.string.val, member->val.string.len);
	if (member != NULL && member->type == jbvNumeric)
		return DatumGetCString(
			DirectFunctionCall1(numeric_out, NumericGetDatum(member->val.numeric)));
	ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("digest has no \"%s\"", name),
					errhint("Give what billing.audit_digest() returned.")));
	return NULL;
}

/* Read the digest that was kept outside. */
static void
read_digest(Digest *digest, Jsonb *json)
{
	char *number = digest_member(json, "block");
	char *end;

	digest->hash = digest_member(json, "hash");
	errno = 0;
	digest->block_no = strtoll(number, &end, 10);
	if (errno != 0 || *end != '\0' || digest->block_no < 1)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("block \"%s\" of the digest is no number of a block", number),
						errhint("Give what billing.audit_digest() returned.")));
}

PG_FUNCTION_INFO_V1(billing_audit_verify);
PG_FUNCTION_INFO_V1(billing_audit_verify_internal);

/* Verify and return; the digest may be NULL. */
static Datum
run(FunctionCallInfo fcinfo, const int32 *entity, Jsonb *digest)
{
	Verification v = { 0 };

	v.result = CurrentMemoryContext;
	v.findings[RECORDS_HAVE_HASHES].invariant = "audit records match their hashes";
	v.findings[RECORDS_ARE_SEALED].invariant = "audit records are those that were sealed";
	v.findings[BLOCKS_FORM_CHAIN].invariant = "audit blocks form a chain";
	v.findings[DIGEST_IS_THERE].invariant = "the audit digest kept outside is in the chain";
	if (digest != NULL)
		read_digest(&v.digest, digest);
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	verify(&v, entity);
	SPI_finish();
	return_findings(fcinfo, &v);
	return (Datum) 0;
}

/*
 * billing.verify_audit(entity text, digest jsonb)
 *     RETURNS TABLE (invariant text, violations bigint, example text)
 */
Datum
billing_audit_verify(PG_FUNCTION_ARGS)
{
	bool all = PG_ARGISNULL(0);
	int32 entity_id = all ? 0 : billing_core_arg_entity(fcinfo, 0);

	if (all && !PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("entity must not be null where a digest is given"),
						errhint("A digest is that of one entity.")));
	return run(fcinfo, all ? NULL : &entity_id, PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1));
}

/* billing_internal.verify_audit(entity integer): step of billing.verify() */
Datum
billing_audit_verify_internal(PG_FUNCTION_ARGS)
{
	int32 entity_id = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);

	return run(fcinfo, PG_ARGISNULL(0) ? NULL : &entity_id, NULL);
}
