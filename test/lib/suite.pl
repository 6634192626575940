# Run all test files in the cluster that the PG* environment names, and write the count of checks to PRIVATE/result.
# Called by test/run with the private directory as argument. Every file that is there must run, whatever its kind.
use strict;
use warnings;

use File::Basename;
use File::Path qw(make_path);
use POSIX ();
use TAP::Parser;

my $private  = shift or die "usage: suite.pl PRIVATE_DIR\n";
my $checkout = "$private/checkout";
my $pattern  = $ENV{T} // '';
my $jobs     = $ENV{JOBS} || 1;
my $limit    = $ENV{BILLING_TEST_TIMEOUT} || 900;    # seconds for one file
my $template = 'billing_template';
my $pgxs     = dirname(capture($ENV{PG_CONFIG}, '--pgxs')) . '/../../src';
my $bindir   = capture($ENV{PG_CONFIG}, '--bindir');
my ($serverlog) = glob "$private/tmp/pg_virtualenv.*/log/*.log";
my ($passed, $failed, $skipped) = (0, 0, 0);
my %ran;

$ENV{PATH} = "$bindir:$ENV{PATH}";
$| = 1;
chdir $checkout or die "$checkout: $!";

prepare_template() or finish();
run_pg_regress('sql', 'expected', '.sql', "$pgxs/test/regress/pg_regress", '.', $ENV{REGRESS});
run_files('test/pgtap', qr/\.sql$/,
	qw(psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --pset=pager=off), "--field-separator=\n", '--file');
run_pg_regress('test/isolation/specs', 'test/isolation/expected', '.spec',
	"$pgxs/test/isolation/pg_isolation_regress", 'test/isolation', $ENV{ISOLATION});
prepare_perl();
run_files('test/tap',      qr/\.pl$/, 'perl');
run_files('test/property', qr/\.pl$/, 'perl');
check_that_all_ran();

finish();

# Write the count, and end
sub finish
{
	if ($passed + $failed == 0)
	{
		print "not ok: nothing ran", ($pattern ne '' ? " that matches T=$pattern" : ''), "\n";
		$failed = 1;
	}
	open my $out, '>', "$private/result" or die $!;
	print $out "$passed passed, $failed failed", ($skipped ? ", $skipped skipped" : ''), "\n";
	close $out;
	exit 0;
}

# What a command prints, without the newline
sub capture
{
	open my $pipe, '-|', @_ or die "$_[0]: $!";
	local $/;
	my $text = <$pipe>;
	close $pipe or die "@_ failed\n";
	$text =~ s{\n\z}{};
	return $text;
}

sub slurp
{
	my ($path) = @_;
	open my $file, '<', $path or return '';
	local $/;
	return scalar <$file> // '';
}

sub chosen
{
	return grep { $pattern eq '' || $_ =~ /$pattern/ } @_;
}

sub psql
{
	my ($database, $sql) = @_;
	return system('psql', '-Xqv', 'ON_ERROR_STOP=1', '-d', $database, '-c', "SET client_min_messages = warning", '-c', $sql) == 0;
}

# The database of which every pgTAP, TAP and property file gets a copy
sub prepare_template
{
	my $position = log_position();
	psql('postgres', "CREATE DATABASE $template")
	  && psql($template, 'CREATE EXTENSION billing_erp CASCADE')
	  && psql($template, 'CREATE EXTENSION pgtap')
	  and return 1;
	failure('CREATE EXTENSION', "no test can run\n" . log_since($position));
	return 0;
}

# PostgreSQL::Test::Cluster as PGXS would call it, with the private install in every cluster's configuration
sub prepare_perl
{
	open my $conf, '>', "$private/temp.conf" or die $!;
	for my $setting (qw(extension_destdir extension_control_path dynamic_library_path))
	{
		my $value = capture('psql', '-XAtc', "SELECT setting FROM pg_settings WHERE name = '$setting' AND source <> 'default'");
		print $conf "$setting = '$value'\n" if $value ne '';
	}
	close $conf;
	make_path("$private/portlock");
	$ENV{TEMP_CONFIG}      = "$private/temp.conf";
	$ENV{PG_REGRESS}       = "$pgxs/test/regress/pg_regress";
	$ENV{PERL5LIB}         = join ':', "$pgxs/test/perl", $ENV{PERL5LIB} // ();
	$ENV{PG_TEST_PORT_DIR} = "$private/portlock";
	return;
}

sub success
{
	my ($name, $detail) = @_;
	printf "ok      %s%s\n", $name, $detail ? " ($detail)" : '';
	return;
}

sub failure
{
	my ($name, $text) = @_;
	my @lines = split /\n/, $text;
	splice @lines, 120, @lines - 200, '  [...]' if @lines > 210;
	print "NOT OK  $name\n", map({ "        $_\n" } @lines);
	$failed++;
	return;
}

# What the server wrote since a position in its log: shown where a test fails
sub log_position { return $serverlog ? -s $serverlog : 0 }

sub log_since
{
	my ($position) = @_;
	return '' unless $serverlog;
	my @lines = split /\n/, substr(slurp($serverlog), $position);
	splice @lines, 0, @lines - 40 if @lines > 40;
	return @lines ? join("\n", '--- server log', @lines) . "\n" : '';
}

# pg_regress or pg_isolation_regress over a list in the given order: every file is one check
sub run_pg_regress
{
	my ($dir, $expected, $suffix, $program, $inputdir, $list) = @_;
	my @names = map { basename($_, $suffix) } chosen(map { "$dir/$_$suffix" } split ' ', $list // '');
	return unless @names;

	my $outputdir = "$private/" . basename($program);
	make_path($outputdir);
	my $position = log_position();
	my $pid = open my $pipe, '-|';
	die "fork: $!" unless defined $pid;
	if (!$pid)
	{
		open STDERR, '>&', \*STDOUT;
		exec $program, "--inputdir=$inputdir", "--outputdir=$outputdir", "--bindir=$bindir",
		  '--dbname=' . basename($program), '--load-extension=btree_gist', '--load-extension=billing_erp', @names;
		die "$program: $!";
	}
	my $output = '';
	while (my $line = <$pipe>)
	{
		$output .= $line;
		# until 15: "test name ... ok   12 ms"; since 16: "ok 1   - name   12 ms"
		my ($name, $ok) = $line =~ /^test (\S+)\s+\.\.\. (ok|FAILED)/ ? ($1, $2 eq 'ok')
		  : $line =~ /^(ok|not ok) \d+\s+[-+] (\S+)/ ? ($2, $1 eq 'ok') : next;
		$ran{"$dir/$name$suffix"} = 1;
		if ($ok)
		{
			$passed++;
			success("$dir/$name$suffix");
		}
		else
		{
			failure("$dir/$name$suffix", capture_diff("$expected/$name.out", "$outputdir/results/$name.out"));
		}
	}
	close $pipe;
	my @missing = grep { !$ran{"$dir/$_$suffix"} } @names;
	print $output, log_since($position) if @missing;
	return;
}

sub capture_diff
{
	my ($expected, $result) = @_;
	return "no $expected\n" unless -e $expected;
	open my $pipe, '-|', 'diff', '-U3', $expected, $result or die $!;
	local $/;
	return scalar <$pipe> // '';
}

# TAP producers, several at once, each with a database of its own
sub run_files
{
	my ($dir, $kind, @command) = @_;
	my @queue = chosen(grep { /$kind/ } sort glob "$dir/*");
	my %running;
	while (@queue || %running)
	{
		while (@queue && keys %running < $jobs)
		{
			my $file = shift @queue;
			(my $id = $file) =~ s/\W+/_/g;
			my $work = "$private/file/$id";
			make_path($work);
			my $started = time;
			my $position = log_position();
			my $pid = fork // die "fork: $!";
			run_one($file, $id, $work, @command) if !$pid;
			$running{$pid} = [ $file, $work, $started, $position ];
		}
		my $pid = waitpid -1, 0;
		my $job = delete $running{$pid} or next;
		account(@$job, $?);
	}
	return;
}

# In the child: make the database, become the test
sub run_one
{
	my ($file, $id, $work, @command) = @_;
	open STDOUT, '>',  "$work/output" or die $!;
	open STDERR, '>&', \*STDOUT;
	$| = 1;
	my $database = lc $id;
	system('psql', '-Xqv', 'ON_ERROR_STOP=1', '-c', qq(CREATE DATABASE "$database" TEMPLATE $template)) == 0 or POSIX::_exit(1);
	$ENV{PGDATABASE} = $database;
	$ENV{TESTDIR}    = $ENV{TESTDATADIR} = $work;
	$ENV{TESTLOGDIR} = "$work/log";
	exec 'timeout', '--kill-after=10', $limit, @command, $file;
	die "exec: $!";
}

# Count the assertions of a finished file; a missing plan, a crash or a bad exit is a failure
sub account
{
	my ($file, $work, $started, $position, $status) = @_;
	my $output = slurp("$work/output");
	my $parser = TAP::Parser->new({ tap => $output });
	$parser->run;
	my $bad   = scalar $parser->actual_failed;
	my $skips = scalar $parser->skipped;
	my $good  = scalar($parser->actual_passed) - $skips;
	my $planned = $parser->tests_planned // 0;
	my @problems = $parser->parse_errors;

	push @problems, "planned $planned, ran " . $parser->tests_run if $planned > $parser->tests_run;
	push @problems, $status & 127 ? "killed by signal " . ($status & 127) : 'exit status ' . ($status >> 8) if $status;
	push @problems, "stopped after $limit s" if $status >> 8 == 124;
	$ran{$file} = 1;
	$passed += $good;
	$skipped += $skips || ($parser->skip_all ? 1 : 0);
	if ($bad || @problems)
	{
		failure($file, join("\n", @problems) . "\n$output" . log_since($position) . logs_of($work));
		my $missing = $planned > $parser->tests_run ? $planned - $parser->tests_run : 0;
		$failed += $bad + $missing - 1 if $bad + $missing;
		return;
	}
	success($file, join ', ', "$good passed",
		$parser->skip_all ? 'skipped: ' . $parser->skip_all : $skips ? "$skips skipped" : (), time - $started . ' s');
	return;
}

# The end of the logs that PostgreSQL::Test::Cluster left
sub logs_of
{
	my ($work) = @_;
	my $text = '';
	for my $log (glob "$work/log/*.log $work/tmp_check/log/*.log")
	{
		my @lines = split /\n/, slurp($log);
		splice @lines, 0, @lines - 30 if @lines > 30;
		$text .= join "\n", '--- ' . basename($log), @lines, '';
	}
	return $text;
}

# A file that is there but did not run is a failure, whatever the reason
sub check_that_all_ran
{
	for my $path (chosen(glob 'sql/* test/pgtap/* test/isolation/specs/* test/tap/* test/property/*'))
	{
		next if $ran{$path} || $path =~ /\.pm$|_oracle\.py$/ || -d $path;
		failure($path, "was not run\n");
	}
	return;
}
