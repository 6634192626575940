/*
 * audit_tree.c
 *		Merkle trees as RFC 6962 paragraph 2.1 defines them: a leaf is the hash of
 *		the byte 0 and its content, a node that of the byte 1 and its two children,
 *		and the left child covers the largest power of two that is less than all.
 *
 * Leaves come as hashes.  The tree of no leaves has the hash of nothing.
 */
#include "pg_compat.h"

#include "audit/audit_private.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define NODE_PREFIX 1
#define HASH BILLING_AUDIT_HASH_LENGTH

/* The node above two others; it may be either of them. */
static void
join(const uint8 *left, const uint8 *right, uint8 *node)
{
	uint8 bytes[1 + 2 * HASH];

	bytes[0] = NODE_PREFIX;
	memcpy(bytes + 1, left, HASH);
	memcpy(bytes + 1 + HASH, right, HASH);
	billing_audit_sha256(bytes, sizeof(bytes), node);
}

/*
 * Add a leaf.  nodes[i] is the root of a full tree of 2^i leaves where bit i of
 * the count is set, so that adding is counting in binary, with a carry.
 */
void
billing_audit_tree_add(BillingAuditTree *tree, const uint8 *leaf)
{
	uint8 node[HASH];
	int level = 0;

	memcpy(node, leaf, HASH);
	while ((tree->count >> level) & 1)
		join(tree->nodes[level++], node, node);
	memcpy(tree->nodes[level], node, HASH);
	tree->count++;
}

/* The root of the leaves that were added. */
void
billing_audit_tree_root(const BillingAuditTree *tree, uint8 *root)
{
	bool begun = false;
	int level;

	if (tree->count == 0)
		billing_audit_sha256("", 0, root);
	for (level = 0; level < 64; level++)
	{
		if (((tree->count >> level) & 1) == 0)
			continue;
		if (begun)
			join(tree->nodes[level], root, root);
		else
			memcpy(root, tree->nodes[level], HASH);
		begun = true;
	}
}

/* The root of leaves that stand one after the other. */
void
billing_audit_tree_of(const uint8 *leaves, uint64 count, uint8 *root)
{
	BillingAuditTree tree = { 0 };
	uint64 i;

	for (i = 0; i < count; i++)
		billing_audit_tree_add(&tree, leaves + i * HASH);
	billing_audit_tree_root(&tree, root);
}

/*
 * The nodes that lead from a leaf to the root, from below, and whether each is
 * the left one of its pair; how many there are, at most 64.
 */
int
billing_audit_tree_path(const uint8 *leaves, uint64 count, uint64 index, uint8 *path, bool *is_left)
{
	uint64 half = 1;
	int length;

	if (count <= 1)
		return 0;
	while (half * 2 < count)
		half *= 2;
	if (index < half)
	{
		length = billing_audit_tree_path(leaves, half, index, path, is_left);
		billing_audit_tree_of(leaves + half * HASH, count - half, path + length * HASH);
		is_left[length] = false;
	}
	else
	{
		length = billing_audit_tree_path(leaves + half * HASH, count - half, index - half, path,
										 is_left);
		billing_audit_tree_of(leaves, half, path + length * HASH);
		is_left[length] = true;
	}
	return length + 1;
}

PG_FUNCTION_INFO_V1(billing_audit_merkle_root);
PG_FUNCTION_INFO_V1(billing_audit_merkle_path);

/* The hashes of an array, one after the other; refuses what is none. */
static uint8 *
hashes_of(ArrayType *array, int *count)
{
	Datum *elements;
	bool *nulls;
	uint8 *hashes;
	int i;

	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &elements, &nulls, count);
	hashes = palloc((Size) HASH * (*count + 1));
	for (i = 0; i < *count; i++)
	{
		if (nulls[i] || VARSIZE_ANY_EXHDR(DatumGetByteaPP(elements[i])) != HASH)
			ereport(ERROR,
					(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("a leaf has 32 bytes"),
					 errhint("Give hashes of audit records.")));
		memcpy(hashes + i * HASH, VARDATA_ANY(DatumGetByteaPP(elements[i])), HASH);
	}
	return hashes;
}

/* billing_internal.merkle_root(leaves bytea[]) RETURNS bytea */
Datum
billing_audit_merkle_root(PG_FUNCTION_ARGS)
{
	bytea *root = palloc(VARHDRSZ + HASH);
	int count;
	uint8 *hashes = hashes_of(PG_GETARG_ARRAYTYPE_P(0), &count);

	SET_VARSIZE(root, VARHDRSZ + HASH);
	billing_audit_tree_of(hashes, count, (uint8 *) VARDATA(root));
	PG_RETURN_BYTEA_P(root);
}

/* billing_internal.merkle_path(leaves bytea[], index integer) RETURNS bytea[]: from below */
Datum
billing_audit_merkle_path(PG_FUNCTION_ARGS)
{
	int count;
	uint8 *hashes = hashes_of(PG_GETARG_ARRAYTYPE_P(0), &count);
	int32 index = PG_GETARG_INT32(1);
	uint8 path[64 * HASH];
	bool is_left[64];
	Datum nodes[64];
	int length;
	int i;

	if (index < 0 || index >= count)
		PG_RETURN_NULL();
	length = billing_audit_tree_path(hashes, count, index, path, is_left);
	for (i = 0; i < length; i++)
		nodes[i] = PointerGetDatum(cstring_to_text_with_len((const char *) path + i * HASH, HASH));
	PG_RETURN_ARRAYTYPE_P(construct_array(nodes, length, BYTEAOID, -1, false, TYPALIGN_INT));
}
