/*
 * audit_verify.c
 *		Checks an exported audit log without a server: that every record has its
 *		hash, every block the root of its records, its hash and that of the block
 *		before, and that a digest kept outside is in the chain.
 *
 *	cc -O2 -o audit_verify test/tools/audit_verify.c -lcrypto
 *	audit_verify LOG BLOCKS [DIGEST]
 *
 * LOG and BLOCKS are what COPY writes in text format for one entity, in the
 * order of ids; docs/audit.md has the commands.  DIGEST is what
 * billing.audit_digest() returned.  Nothing of the extension is used but the
 * description of its bytes.  Ends with 0 where all is well, 1 where something is
 * not, 2 where the files cannot be read.
 */
#define _GNU_SOURCE
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH 32
#define LAYOUT 2
#define RECORD_FIELDS 16
#define BLOCK_FIELDS 15

/* Bytes that grow. */
typedef struct Bytes
{
	unsigned char *data;
	size_t length;
	size_t size;
} Bytes;

/* A Merkle tree that grows leaf by leaf. */
typedef struct Tree
{
	uint64_t count;
	unsigned char nodes[64][HASH];
} Tree;

static unsigned long violations = 0;

/* The files cannot be read: say where and end. */
static void
give_up(const char *file, unsigned long line, const char *what)
{
	fprintf(stderr, "%s, line %lu: %s\n", file, line, what);
	exit(2);
}

/* Something is not as it must be. */
static void
violation(const char *format, ...)
{
	va_list args;

	violations++;
	if (violations > 20)
		return;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static void
append(Bytes *bytes, const void *data, size_t length)
{
	if (bytes->length + length > bytes->size)
	{
		bytes->size = 2 * (bytes->length + length) + 256;
		bytes->data = realloc(bytes->data, bytes->size);
		if (bytes->data == NULL)
			abort();
	}
	memcpy(bytes->data + bytes->length, data, length);
	bytes->length += length;
}

static void
append_byte(Bytes *bytes, int byte)
{
	unsigned char c = (unsigned char) byte;

	append(bytes, &c, 1);
}

/* An integer of so many bytes, the highest first. */
static void
append_integer(Bytes *bytes, uint64_t value, int length)
{
	int shift;

	for (shift = 8 * (length - 1); shift >= 0; shift -= 8)
		append_byte(bytes, (int) (value >> shift) & 0xff);
}

/* Write the length of what was appended since a place into the 4 bytes before it. */
static void
set_length(Bytes *bytes, size_t place)
{
	size_t length = bytes->length - place;
	int i;

	for (i = 0; i < 4; i++)
		bytes->data[place - 4 + i] = (unsigned char) (length >> (8 * (3 - i)));
}

static void
sha256(const void *data, size_t length, unsigned char *hash)
{
	unsigned int size = HASH;

	if (EVP_Digest(data, length, hash, &size, EVP_sha256(), NULL) != 1)
		abort();
}

/* ---------------------------------------------------------------- RFC 6962 */

static void
join(const unsigned char *left, const unsigned char *right, unsigned char *node)
{
	unsigned char bytes[1 + 2 * HASH];

	bytes[0] = 1;
	memcpy(bytes + 1, left, HASH);
	memcpy(bytes + 1 + HASH, right, HASH);
	sha256(bytes, sizeof(bytes), node);
}

static void
tree_add(Tree *tree, const unsigned char *leaf)
{
	unsigned char node[HASH];
	int level = 0;

	memcpy(node, leaf, HASH);
	for (; (tree->count >> level) & 1; level++)
		join(tree->nodes[level], node, node);
	memcpy(tree->nodes[level], node, HASH);
	tree->count++;
}

static void
tree_root(const Tree *tree, unsigned char *root)
{
	int begun = 0;
	int level;

	sha256("", 0, root);
	for (level = 0; level < 64; level++)
	{
		if (((tree->count >> level) & 1) == 0)
			continue;
		if (begun)
			join(tree->nodes[level], root, root);
		else
			memcpy(root, tree->nodes[level], HASH);
		begun = 1;
	}
}

/* ---------------------------------------------------------------- the text of COPY */

/* Split a line at its tabs and take the escapes out, in place; a field that is \N is NULL. */
static int
split(char *line, char **fields, int most)
{
	int count = 0;
	char *from = line;
	char *to;

	while (count < most)
	{
		char *end = strchr(from, '\t');

		if (end != NULL)
			*end = '\0';
		fields[count++] = strcmp(from, "\\N") == 0 ? NULL : from;
		for (to = from; *from != '\0'; from++)
		{
			if (*from == '\\' && from[1] != '\0')
			{
				static const char letters[] = "bfnrtv";
				static const char meanings[] = "\b\f\n\r\t\v";
				const char *letter = strchr(letters, *++from);

				*to++ = letter == NULL ? *from : meanings[letter - letters];
			}
			else
				*to++ = *from;
		}
		*to = '\0';
		if (end == NULL)
			return count;
		from = end + 1;
	}
	return most + 1;
}

/* The bytes of \x and hex digits; how many, -1: it is none. */
static int
from_hex(const char *text, unsigned char *bytes, int most)
{
	int count = 0;

	if (text == NULL)
		return -1;
	if (text[0] == '\\' && text[1] == 'x')
		text += 2;
	for (; text[0] != '\0'; text += 2)
	{
		unsigned int byte;

		if (count == most || text[1] == '\0' || sscanf(text, "%2x", &byte) != 1)
			return -1;
		bytes[count++] = (unsigned char) byte;
	}
	return count;
}

/* Microseconds since 2000-01-01 UTC of a time that PostgreSQL writes in ISO style and UTC. */
static int
from_time(const char *text, int64_t *micros)
{
	int year, month, day, hour, minute, second;
	int used = 0;
	int digit = 100000;
	int64_t days;

	if (sscanf(text, "%d-%d-%d %d:%d:%d%n", &year, &month, &day, &hour, &minute, &second, &used) != 6)
		return 0;
	/* days since 1 March 0000: the leap day is the last of its year */
	if (month <= 2)
	{
		year--;
		month += 12;
	}
	days = 365 * (int64_t) year + year / 4 - year / 100 + year / 400 + (153 * (month - 3) + 2) / 5 + day - 1;
	/* 730425 of them before 1 January 2000 */
	*micros = ((days - 730425) * 86400 + hour * 3600 + minute * 60 + second) * 1000000;
	text += used;
	if (*text == '.')
	{
		for (text++; *text >= '0' && *text <= '9'; text++, digit /= 10)
			*micros += (*text - '0') * digit;
	}
	return strcmp(text, "+00") == 0;
}

/* ---------------------------------------------------------------- canonical bytes */

static void
append_text(Bytes *bytes, const char *text, size_t length)
{
	append_integer(bytes, length, 4);
	append(bytes, text, length);
}

/* A field of text, null where it is NULL. */
static void
text_field(Bytes *bytes, const char *text)
{
	if (text == NULL)
		append_integer(bytes, 0xffffffff, 4);
	else
		append_text(bytes, text, strlen(text));
}

/* A field of an integer of 8 bytes. */
static void
integer_field(Bytes *bytes, const char *text)
{
	if (text == NULL)
	{
		append_integer(bytes, 0xffffffff, 4);
		return;
	}
	append_integer(bytes, 8, 4);
	append_integer(bytes, text[0] == '-' ? (uint64_t) strtoll(text, NULL, 10) : strtoull(text, NULL, 10), 8);
}

/* A field of time; 0 where the text is none. */
static int
time_field(Bytes *bytes, const char *text)
{
	int64_t micros;

	if (text == NULL || !from_time(text, &micros))
		return 0;
	append_integer(bytes, 8, 4);
	append_integer(bytes, (uint64_t) micros, 8);
	return 1;
}

static const char *
skip_blanks(const char *at)
{
	return at + strspn(at, " \t\n\r");
}

/* Four hex digits of an escape. */
static unsigned int
four_digits(const char *at)
{
	unsigned int code = 0;

	return sscanf(at, "%4x", &code) == 1 ? code : 0xfffd;
}

/* A character in UTF-8. */
static void
append_character(Bytes *bytes, unsigned int code)
{
	if (code < 0x80)
		append_byte(bytes, (int) code);
	else if (code < 0x800)
	{
		append_byte(bytes, (int) (0xc0 | code >> 6));
		append_byte(bytes, (int) (0x80 | (code & 0x3f)));
	}
	else if (code < 0x10000)
	{
		append_byte(bytes, (int) (0xe0 | code >> 12));
		append_byte(bytes, (int) (0x80 | (code >> 6 & 0x3f)));
		append_byte(bytes, (int) (0x80 | (code & 0x3f)));
	}
	else
	{
		append_byte(bytes, (int) (0xf0 | code >> 18));
		append_byte(bytes, (int) (0x80 | (code >> 12 & 0x3f)));
		append_byte(bytes, (int) (0x80 | (code >> 6 & 0x3f)));
		append_byte(bytes, (int) (0x80 | (code & 0x3f)));
	}
}

/* Length and text of a JSON string that begins at a quote; where it ends, NULL: it is none. */
static const char *
json_string(Bytes *bytes, const char *at)
{
	static const char letters[] = "bfnrt";
	static const char meanings[] = "\b\f\n\r\t";
	size_t place;

	append_integer(bytes, 0, 4);
	place = bytes->length;
	for (at++; *at != '"'; at++)
	{
		const char *letter;

		if (*at == '\0')
			return NULL;
		if (*at != '\\')
			append_byte(bytes, *at);
		else if (*++at == 'u')
		{
			unsigned int code = four_digits(at + 1);

			at += 4;
			if (code >= 0xd800 && code < 0xdc00 && at[1] == '\\' && at[2] == 'u')
			{
				code = 0x10000 + ((code - 0xd800) << 10) + (four_digits(at + 3) - 0xdc00);
				at += 6;
			}
			append_character(bytes, code);
		}
		else
		{
			letter = *at == '\0' ? NULL : strchr(letters, *at);
			append_byte(bytes, letter == NULL ? *at : meanings[letter - letters]);
		}
	}
	set_length(bytes, place);
	return at + 1;
}

/* A JSON number without the zeros at the end of its fraction. */
static const char *
json_number(Bytes *bytes, const char *at)
{
	size_t length = strspn(at, "+-.0123456789eE");
	size_t kept = length;

	if (length == 0)
		return NULL;
	if (memchr(at, '.', length) != NULL)
	{
		while (at[kept - 1] == '0')
			kept--;
		if (at[kept - 1] == '.')
			kept--;
	}
	append_text(bytes, at, kept);
	return at + length;
}

/* Any JSON value; where it ends, NULL: it is none. */
static const char *
json_value(Bytes *bytes, const char *at)
{
	static const char *const words[] = { "null", "true", "false" };
	uint32_t count = 0;
	size_t place;
	char close;
	int i;

	at = skip_blanks(at);
	for (i = 0; i < 3; i++)
	{
		if (strncmp(at, words[i], strlen(words[i])) == 0)
		{
			append_byte(bytes, words[i][0]);
			return at + strlen(words[i]);
		}
	}
	if (*at == '"')
	{
		append_byte(bytes, '"');
		return json_string(bytes, at);
	}
	if (*at != '{' && *at != '[')
	{
		append_byte(bytes, '#');
		return json_number(bytes, at);
	}
	close = *at == '{' ? '}' : ']';
	append_byte(bytes, *at);
	append_integer(bytes, 0, 4);
	place = bytes->length;
	for (at = skip_blanks(at + 1); *at != close; count++)
	{
		if (count > 0)
		{
			if (*at != ',')
				return NULL;
			at = skip_blanks(at + 1);
		}
		if (close == '}')
		{
			if (*at != '"' || (at = json_string(bytes, at)) == NULL)
				return NULL;
			at = skip_blanks(at);
			if (*at++ != ':')
				return NULL;
		}
		at = json_value(bytes, at);
		if (at == NULL)
			return NULL;
		at = skip_blanks(at);
	}
	for (i = 0; i < 4; i++)
		bytes->data[place - 4 + i] = (unsigned char) (count >> (8 * (3 - i)));
	return at + 1;
}

/* A field of JSON; 0 where the text is none. */
static int
json_field(Bytes *bytes, const char *text)
{
	size_t place;
	const char *end;

	if (text == NULL)
	{
		append_integer(bytes, 0xffffffff, 4);
		return 1;
	}
	append_integer(bytes, 0, 4);
	place = bytes->length;
	end = json_value(bytes, text);
	if (end == NULL || *skip_blanks(end) != '\0')
		return 0;
	set_length(bytes, place);
	return 1;
}

/* The hash of a record, given its fields as COPY wrote them; 0 where one of them is not what it should be. */
static int
record_hash(char **fields, unsigned char *hash)
{
	static Bytes bytes;
	int i;

	bytes.length = 0;
	append_byte(&bytes, 0);
	append_byte(&bytes, LAYOUT);
	integer_field(&bytes, fields[0]);
	integer_field(&bytes, fields[1]);
	if (!time_field(&bytes, fields[2]))
		return 0;
	integer_field(&bytes, fields[3]);
	for (i = 4; i <= 8; i++)
		text_field(&bytes, fields[i]);
	if (!json_field(&bytes, fields[9]) || !json_field(&bytes, fields[10]))
		return 0;
	for (i = 11; i <= 14; i++)
		text_field(&bytes, fields[i]);
	sha256(bytes.data, bytes.length, hash);
	return 1;
}

/* A field of bytes that COPY wrote in hex. */
static void
hash_field(Bytes *bytes, const char *text)
{
	unsigned char hash[HASH];
	int length = from_hex(text, hash, HASH);

	if (length < 0)
		append_integer(bytes, 0xffffffff, 4);
	else
		append_text(bytes, (char *) hash, (size_t) length);
}

/* The hash of a block. */
static int
block_hash(char **fields, unsigned char *hash)
{
	static Bytes bytes;

	bytes.length = 0;
	append_byte(&bytes, 2);
	append_byte(&bytes, LAYOUT);
	integer_field(&bytes, fields[0]);
	integer_field(&bytes, fields[1]);
	text_field(&bytes, fields[2]);
	integer_field(&bytes, fields[3]);
	integer_field(&bytes, fields[4]);
	integer_field(&bytes, fields[5]);
	hash_field(&bytes, fields[6]);
	hash_field(&bytes, fields[7]);
	integer_field(&bytes, fields[8]);
	integer_field(&bytes, fields[9]);
	integer_field(&bytes, fields[10]);
	if (!time_field(&bytes, fields[11]))
		return 0;
	text_field(&bytes, fields[12]);
	sha256(bytes.data, bytes.length, hash);
	return 1;
}

/* ---------------------------------------------------------------- the two files */

/* A file that is read line by line. */
typedef struct Input
{
	const char *name;
	FILE *file;
	unsigned long line;
	char *text;
	size_t size;
	char *fields[RECORD_FIELDS];
	int64_t id; /* of the record at hand; INT64_MAX at the end */
} Input;

static void
open_input(Input *input, const char *name)
{
	memset(input, 0, sizeof(Input));
	input->name = name;
	input->file = fopen(name, "r");
	if (input->file == NULL)
		give_up(name, 0, "cannot be opened");
}

/* Read the next line into its fields; 0 at the end. */
static int
next_line(Input *input, int fields)
{
	ssize_t length = getline(&input->text, &input->size, input->file);

	if (length < 0)
		return 0;
	input->line++;
	if (length > 0 && input->text[length - 1] == '\n')
		input->text[length - 1] = '\0';
	if (split(input->text, input->fields, fields) != fields)
		give_up(input->name, input->line, "does not have the columns that it should");
	return 1;
}

/* Go to the next record, and check its hash. */
static void
next_record(Input *log, const char *entity, unsigned char *hash)
{
	unsigned char written[HASH];
	int64_t before = log->id;

	if (!next_line(log, RECORD_FIELDS))
	{
		log->id = INT64_MAX;
		return;
	}
	if (log->fields[0] == NULL || log->fields[1] == NULL || (entity != NULL && strcmp(log->fields[0], entity) != 0))
		give_up(log->name, log->line, "is not of the entity");
	log->id = strtoll(log->fields[1], NULL, 10);
	if (log->line > 1 && log->id <= before)
		give_up(log->name, log->line, "is not in the order of ids");
	if (from_hex(log->fields[15], written, HASH) != HASH)
		memset(written, 0, HASH);
	if (!record_hash(log->fields, hash))
		give_up(log->name, log->line, "is not what COPY writes with TimeZone UTC and DateStyle ISO");
	if (memcmp(hash, written, HASH) != 0)
		violation("record %lld does not have its hash", (long long) log->id);
}

/* What the text of a digest says about a member. */
static char *
digest_member(const char *digest, const char *name, const char *characters)
{
	char *quoted;
	const char *at;

	if (asprintf(&quoted, "\"%s\"", name) < 0)
		abort();
	at = strstr(digest, quoted);
	free(quoted);
	if (at == NULL)
		return NULL;
	at += strlen(name) + 2;
	at += strspn(at, " :\"");
	return strndup(at, strspn(at, characters));
}

int
main(int argc, char **argv)
{
	Input log, blocks;
	unsigned char hash[HASH], computed[HASH], written[HASH], previous[HASH];
	char *digest = NULL, *digest_block = NULL, *digest_hash = NULL, *entity = NULL;
	int64_t through = 0;
	unsigned long records = 0, sealed = 0, count = 0;
	int digest_seen = 0;

	if (argc < 3 || argc > 4)
	{
		fprintf(stderr, "usage: %s LOG BLOCKS [DIGEST]\n", argv[0]);
		return 2;
	}
	open_input(&log, argv[1]);
	open_input(&blocks, argv[2]);
	if (argc == 4)
	{
		Input file;

		open_input(&file, argv[3]);
		if (getline(&file.text, &file.size, file.file) < 0)
			give_up(argv[3], 1, "is empty");
		digest = file.text;
		digest_block = digest_member(digest, "block", "0123456789");
		digest_hash = digest_member(digest, "hash", "0123456789abcdef");
		if (digest_block == NULL || digest_hash == NULL)
			give_up(argv[3], 1, "is not what billing.audit_digest() returns");
		fclose(file.file);
	}
	next_record(&log, NULL, hash);
	if (log.id != INT64_MAX)
		entity = strdup(log.fields[0]);
	while (next_line(&blocks, BLOCK_FIELDS))
	{
		char **f = blocks.fields;
		Tree tree = { 0 };
		int64_t after, block_through;

		if (f[1] == NULL || f[3] == NULL || f[4] == NULL || f[5] == NULL)
			give_up(blocks.name, blocks.line, "has nulls");
		count++;
		after = strtoll(f[3], NULL, 10);
		block_through = strtoll(f[4], NULL, 10);
		if (!block_hash(f, computed))
			give_up(blocks.name, blocks.line, "is not what COPY writes with TimeZone UTC and DateStyle ISO");
		if (f[13] == NULL || atoi(f[13]) != LAYOUT || from_hex(f[14], written, HASH) != HASH || memcmp(computed, written, HASH) != 0)
			violation("block %s does not have its hash", f[1]);
		if (strtoull(f[1], NULL, 10) != count || after != through)
			violation("block %s does not follow the one before", f[1]);
		if (count == 1 ? f[7] != NULL : (from_hex(f[7], computed, HASH) != HASH || memcmp(computed, previous, HASH) != 0))
			violation("block %s does not have the hash of the one before", f[1]);
		memcpy(previous, written, HASH);
		if (digest != NULL && strcmp(f[1], digest_block) == 0)
		{
			digest_seen = 1;
			if (from_hex(digest_hash, computed, HASH) != HASH || memcmp(computed, written, HASH) != 0)
				violation("block %s is not the one of the digest", f[1]);
		}
		while (log.id <= after)
		{
			violation("record %lld is in no block", (long long) log.id);
			next_record(&log, entity, hash);
			records++;
		}
		while (log.id <= block_through)
		{
			tree_add(&tree, hash);
			next_record(&log, entity, hash);
			records++;
		}
		tree_root(&tree, computed);
		if (from_hex(f[6], written, HASH) != HASH || memcmp(computed, written, HASH) != 0 || tree.count != strtoull(f[5], NULL, 10))
			violation("the records of block %s, after %s through %s, are not those that were sealed", f[1], f[3], f[4]);
		through = block_through;
		sealed += tree.count;
	}
	for (; log.id != INT64_MAX; records++)
	{
		if (log.id <= through)
			violation("record %lld is in no block", (long long) log.id);
		next_record(&log, entity, hash);
	}
	if (digest != NULL && !digest_seen)
		violation("block %s of the digest is missing", digest_block);
	printf("%lu records, %lu of them sealed in %lu blocks: %lu violations\n", records, sealed, count, violations);
	return violations > 0 ? 1 : 0;
}
