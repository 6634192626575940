/*
 * audit_private.h
 *		What the files of the room share.
 */
#ifndef BILLING_AUDIT_PRIVATE_H
#define BILLING_AUDIT_PRIVATE_H

#include "audit/audit.h"
#include "commands/trigger.h"
#include "datatype/timestamp.h"

/* What an audited table's trigger says about it. */
typedef struct BillingAuditedTable
{
	TupleDesc descriptor;
	text *object_type;
	int key; /* numbers of attributes, from 0; -1: none */
	int entity;
	int subject; /* the customer whom personal columns are about */
	bool *personal;
	FmgrInfo *to_json; /* by attribute */
} BillingAuditedTable;

/* audit_row.c */
extern BillingAuditedTable *billing_audit_describe(TriggerData *trigger);
extern Jsonb *billing_audit_row_json(BillingAuditedTable *table, TupleTableSlot *slot,
									 const bool *wanted);
extern text *billing_audit_key_text(BillingAuditedTable *table, TupleTableSlot *slot);
extern int32 billing_audit_row_entity(BillingAuditedTable *table, TupleTableSlot *slot);

/* audit_tree.c: a Merkle tree that grows leaf by leaf; as deep as 2^63 leaves need */
typedef struct BillingAuditTree
{
	uint64 count;
	uint8 nodes[64][BILLING_AUDIT_HASH_LENGTH];
} BillingAuditTree;

extern void billing_audit_tree_add(BillingAuditTree *tree, const uint8 *leaf);
extern void billing_audit_tree_root(const BillingAuditTree *tree, uint8 *root);
extern void billing_audit_tree_of(const uint8 *leaves, uint64 count, uint8 *root);
extern int billing_audit_tree_path(const uint8 *leaves, uint64 count, uint64 index, uint8 *path,
								   bool *is_left);

/* audit_block.c */
typedef struct BillingAuditBlock
{
	int32 entity_id;
	int64 block_no; /* 0: none yet */
	char *kind;
	int64 after;
	int64 through;
	int64 count;
	uint8 root[BILLING_AUDIT_HASH_LENGTH];
	bool has_previous;
	uint8 previous[BILLING_AUDIT_HASH_LENGTH];
	uint64 horizon;
	int64 system_identifier;
	int32 timeline;
	TimestampTz sealed_at;
	char *note; /* NULL: none */
	int layout;
	uint8 hash[BILLING_AUDIT_HASH_LENGTH];
	uint8 *leaves; /* count hashes */
	int64 leaves_length;
} BillingAuditBlock;

#define BILLING_AUDIT_BLOCK_COLUMNS                                                                  \
	" block_no, kind, after_audit_id, through_audit_id, record_count, root, previous_hash, horizon," \
	" system_identifier, timeline, sealed_at, note, layout, hash, entity_id"
/* The most records of one block. */
#define BILLING_AUDIT_BLOCK_RECORDS 32768

extern void billing_audit_block_hash(const BillingAuditBlock *block, uint8 *hash);
extern void billing_audit_fetch_block(BillingAuditBlock *block, uint64 row);
extern bool billing_audit_last_block(int32 entity_id, BillingAuditBlock *block);
extern void billing_audit_chain(const BillingAuditBlock *previous, BillingAuditBlock *block);
extern void billing_audit_insert_block(BillingAuditBlock *block);

/* audit_personal.c */
extern Jsonb *billing_audit_conceal(int32 entity_id, int64 subject, const char *field,
									Jsonb *value);

#endif /* BILLING_AUDIT_PRIVATE_H */
