# shellcheck shell=bash
# What the scripts share: which server, a private install, a throw-away cluster. Sourced; the caller is in the checkout.

# The pg_config to build with: PG_CONFIG if set, else the newest server whose development files are installed.
find_pg_config() {
	local candidate
	if [ -z "${PG_CONFIG:-}" ]; then
		while IFS= read -r candidate; do
			[ -f "$("$candidate" --pgxs)" ] && PG_CONFIG=$candidate
		done < <(ls -v /usr/lib/postgresql/*/bin/pg_config 2>/dev/null)
	fi
	[ -n "${PG_CONFIG:-}" ] || die "no PostgreSQL development files found; run test/packages build"
	PG_CONFIG=$(command -v "$PG_CONFIG") || die "PG_CONFIG does not name a program"
	PG_MAJOR=$("$PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
	PG_BINDIR=$("$PG_CONFIG" --bindir)
	export PG_CONFIG PG_MAJOR PG_BINDIR
}

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# Make a private directory that is removed at exit, with every server that is still running in it.
make_private_dir() {
	local parent=${TMPDIR:-/tmp}
	# A socket's path must fit into 107 characters
	[ ${#parent} -le 40 ] || parent=/tmp
	PRIVATE=$(mktemp -d "$parent/billing.XXXXXX")
	mkdir "$PRIVATE/socket" "$PRIVATE/tmp"
	trap remove_private_dir EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

remove_private_dir() {
	local status=$? pidfile pid
	trap - EXIT
	trap '' INT TERM HUP
	if [ -n "${CHILD:-}" ]; then
		kill -TERM -- "-$CHILD" 2>/dev/null
	fi
	while IFS= read -r pidfile; do
		read -r pid < "$pidfile" && kill -QUIT "$pid" 2>/dev/null
	done < <(find "$PRIVATE" -name postmaster.pid 2>/dev/null)
	wait
	if [ -n "${KEEP:-}" ]; then
		echo "kept: $PRIVATE"
	else
		rm -rf "$PRIVATE" 2>/dev/null || { sleep 1; rm -rf "$PRIVATE"; }
	fi
	exit "$status"
}

# Run a command as the user who may run a server: ourselves, or postgres when we are root. It runs in its own
# process group, in the background of this shell, so that a signal reaches us at once.
as_server_user() {
	local status=0
	set -m
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- "$@" < /dev/null &
	else
		"$@" < /dev/null &
	fi
	CHILD=$!
	set +m
	wait "$CHILD" || status=$?
	CHILD=
	return "$status"
}

# Build in the checkout (one builder at a time) and install below $PRIVATE, where pg_virtualenv -p looks for it.
build_private() {
	exec 9> .build.lock
	flock 9
	"${MAKE:-make}" --no-print-directory -s -j"$(nproc)" USE_PGXS=1 PG_CONFIG="$PG_CONFIG" with_llvm=no all 9>&- || die "the build failed"
	"${MAKE:-make}" --no-print-directory -s USE_PGXS=1 PG_CONFIG="$PG_CONFIG" with_llvm=no \
		DESTDIR="$PRIVATE/debian/billing_erp" install 9>&- || die "the installation failed"
	exec 9>&-
}

# A private copy of the working tree, without what was built
copy_checkout() {
	mkdir "$PRIVATE/checkout"
	tar -c --exclude=./.git --exclude='*.o' --exclude='*.bc' --exclude='*.so' . | tar -x -C "$PRIVATE/checkout" ||
		die "cannot copy the checkout"
}

# The real input, where it is: readable for the server's user as $PRIVATE/data
copy_real_data() {
	local data=${BILLING_REAL_DATA:-../shared/data}
	if [ -d "$data" ]; then
		cp -RL "$data" "$PRIVATE/data"
		chmod -R u+w "$PRIVATE/data"
	fi
}

# Give the private directory to the user who runs the servers.
hand_over() {
	if [ "$(id -u)" = 0 ]; then
		chown -R postgres: "$PRIVATE"
	fi
}

# The settings with which a server finds the private install, as pg_virtualenv -p writes them
private_settings() {
	local sharedir pkglibdir
	sharedir=$("$PG_CONFIG" --sharedir)
	pkglibdir=$("$PG_CONFIG" --pkglibdir)
	if grep -q extension_destdir "$sharedir/postgresql.conf.sample"; then
		echo "extension_destdir = '$PRIVATE/debian/billing_erp'"
	else
		echo "extension_control_path = '$PRIVATE/debian/billing_erp$sharedir:\$system'"
	fi
	echo "dynamic_library_path = '$PRIVATE/debian/billing_erp$pkglibdir:$pkglibdir'"
}

# Run a command in a throw-away cluster with billing_erp installed and preloaded: pg_virtualenv makes and drops it.
# Only a socket in the private directory, so that no port can clash; superuser postgres, trusted.
# Usage: with_cluster [-o setting=value]... command...
with_cluster() {
	local options=()
	while [ "${1:-}" = -o ]; do
		options+=(-o "$2")
		shift 2
	done
	as_server_user env -C "$PRIVATE" -u PGSERVICE -u PGSERVICEFILE -u PGOPTIONS -u PGHOSTADDR -u PGSYSCONFDIR \
		USER=postgres HOME="$PRIVATE" TMPDIR="$PRIVATE/tmp" PGPORT=5432 PGHOST= LC_ALL=C.UTF-8 \
		pg_virtualenv -v "$PG_MAJOR" -p billing_erp -c "--socketdir $PRIVATE/socket" \
		-i '--auth=trust --encoding=UTF8 --locale=C.UTF-8' \
		-o 'listen_addresses= ' -o ssl=off -o shared_preload_libraries=billing_erp -o timezone=UTC "${options[@]}" \
		env PGHOST="$PRIVATE/socket" PGUSER=postgres PGDATABASE=postgres "$@"
}
