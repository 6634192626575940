# billing_erp: `make help` lists the targets.
#
# The lower half builds with PGXS and is read only when USE_PGXS is set; the upper half works on a machine where
# PostgreSQL's development files are not installed yet, and hands the work to scripts or to the lower half.

EXTENSION  = billing_erp
EXTVERSION = 0.1.0
MODULE_big = billing_erp

# The rooms in the order in which they may use each other: a room uses only rooms to its left, in C and in SQL.
ROOMS = core audit masterdata rating contract workflow metering usage invoicing worker

# The documented behaviour, as transcripts: for each room, in the same order, sql/<room>.sql and then sql/<room>_*.sql
REGRESS = $(foreach room,$(ROOMS),$(patsubst sql/%.sql,%,$(wildcard sql/$(room).sql) $(sort $(wildcard sql/$(room)_*.sql))))
# Concurrent operations, each spec alone
ISOLATION = $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))

ifndef USE_PGXS
# ----------------------------------------------------------------------------------------------------------------------
# House targets

.DEFAULT_GOAL = all

BUILD_TARGETS = all install uninstall installcheck clean

.PHONY: help $(BUILD_TARGETS) check demo demo-stop bench lint format docs updatecheck check-matrix dist

help:
	@echo 'make               build for the server of PG_CONFIG (default: pg_config in the PATH)'
	@echo 'make install       install into that server (DESTDIR is respected)'
	@echo 'make installcheck  regression and isolation tests against a running server that has it installed'
	@echo 'make demo          packages, build, private cluster, data, a billing cycle, a report; make demo-stop ends it'
	@echo 'make check         every test, in throw-away clusters; T=regex picks tests, JOBS=n, KEEP=1 keeps the files'
	@echo 'make lint          warnings as errors, cppcheck, format, exported symbols, house rules of the sources'
	@echo 'make format        apply clang-format'
	@echo 'make docs          write docs/reference.md from the catalog'
	@echo 'make bench         speed, each figure beside its baseline'
	@echo 'make updatecheck   old versions + ALTER EXTENSION UPDATE = fresh install'
	@echo 'make check-matrix  make check on PostgreSQL 17 and 18 in debootstrap chroots (slow, root)'
	@echo 'make dist          a source archive of HEAD for PGXN'
	@echo 'make clean         remove what the build made'

$(BUILD_TARGETS):
	@$(MAKE) --no-print-directory USE_PGXS=1 $@

check:
	@test/packages check
	@test/run

demo:
	@test/packages build
	@docs/demo/run start

demo-stop:
	@docs/demo/run stop

bench:
	@test/packages build
	@test/bench/run

lint:
	@test/packages lint
	@test/lint

format:
	@test/packages lint
	clang-format -i $(wildcard src/*.[ch] src/*/*.[ch])

docs:
	@test/packages build
	@docs/reference

updatecheck:
	@test/packages build
	@test/updatecheck

check-matrix:
	@test/packages matrix
	@test/matrix

dist:
	git archive --format=zip --prefix=$(EXTENSION)-$(EXTVERSION)/ -o $(EXTENSION)-$(EXTVERSION).zip HEAD

else
# ----------------------------------------------------------------------------------------------------------------------
# The build

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq ($(wildcard $(PGXS)),)
$(error PostgreSQL's development files are not installed (no PGXS from $(PG_CONFIG)): run `test/packages build`, or set PG_CONFIG)
endif

OBJS = src/billing_erp.o $(patsubst %.c,%.o,$(foreach room,$(ROOMS),$(sort $(wildcard src/$(room)/*.c))))

# The install script: what each room brings, in room order, then what closes the house (ownership, grants). A room with much
# SQL has a file for each concern beside the main one: tables.sql, then tables_<concern>.sql.
SCRIPT     = $(EXTENSION)--$(EXTVERSION).sql
SCRIPT_SQL = $(foreach room,$(ROOMS),$(foreach part,tables seed functions views,$(wildcard src/$(room)/$(part).sql) $(sort $(wildcard src/$(room)/$(part)_*.sql)))) $(wildcard src/final.sql)
DATA_built = $(SCRIPT)
# Scripts from one released version to the next
DATA       = $(wildcard update/$(EXTENSION)--*--*.sql)

REGRESS_OPTS   = --load-extension=btree_gist --load-extension=$(EXTENSION)
ISOLATION_OPTS = --inputdir=test/isolation --load-extension=btree_gist --load-extension=$(EXTENSION)

PG_CPPFLAGS = -Isrc
PG_CFLAGS   = -std=gnu99 -MMD -MP
EXTRA_CLEAN = $(OBJS:.o=.d) src/.built_for $(EXTENSION)-$(EXTVERSION).zip

include $(PGXS)

-include $(OBJS:.o=.d)

# Objects of one server version must not be linked for another: they depend on who they were built for.
BUILT_FOR := $(shell $(PG_CONFIG) --version) $(pkglibdir) $(CC) $(CFLAGS)
ifneq ($(strip $(BUILT_FOR)),$(strip $(shell cat src/.built_for 2>/dev/null)))
.PHONY: src/.built_for
endif
src/.built_for:
	@printf '%s\n' '$(BUILT_FOR)' > $@
$(OBJS): src/.built_for Makefile
$(OBJS:.o=.bc): %.bc: %.o

$(SCRIPT): $(SCRIPT_SQL) Makefile
	@printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit' > $@.tmp
	@for f in $(SCRIPT_SQL); do printf '\n-- %s\n\n' "$$f"; cat "$$f"; done >> $@.tmp
	@mv $@.tmp $@

# What the test harness asks for
print-%:
	@echo $($*)
endif
