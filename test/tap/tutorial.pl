# docs/tutorial.md, docs/billing_runs.md and README.md print what they say: their sql blocks are run in order, each page in a server of its own,
# and what psql prints is compared with the text block that follows.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $mark = '---- block';

# Blocks of a page: what is run, what it prints (undef where the page does not say), and the line it begins at
sub blocks_of
{
	my ($path) = @_;
	my (@blocks, $kind, $text, $start);
	my $line = 0;
	my $after_sql = 0;
	open my $in, '<:encoding(UTF-8)', $path or die "$path: $!";
	while (my $row = <$in>)
	{
		$line++;
		if (defined $kind && $row =~ /^```\s*$/)
		{
			push @blocks, { sql => $text, line => $start } if $kind eq 'sql';
			$blocks[-1]{output} = $text if $kind eq 'text';
			$after_sql = $kind eq 'sql';
			undef $kind;
		}
		elsif (defined $kind)
		{
			$text .= $row;
		}
		elsif ($row =~ /^```(\w*)\s*$/)
		{
			($kind, $text, $start) = ($1, '', $line + 1);
			die "$path line $line: a text block without an sql block before it" if $kind eq 'text' && !$after_sql;
		}
	}
	die "$path: a block does not end" if defined $kind;
	return @blocks;
}

# What differs from run to run by its nature: the year of issue, and when terms were recorded; and blanks that nobody sees
sub settle
{
	my ($text) = @_;
	$text =~ s/\b(INV|CN)-\d{4}-/$1-YYYY-/g;
	$text =~ s/recorded \d{4}-\d\d-\d\d \d\d:\d\d:\d\d/recorded YYYY-MM-DD hh:mm:ss/g;
	$text =~ s/[ \t]+$//mg;
	$text =~ s/\A\n+|\n+\z//g;
	return $text;
}

sub run_page
{
	my ($path, $name) = @_;
	my @blocks = blocks_of($path);
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->start;

	# A file that writes to one pipe what psql and the server say, in the order in which they say it
	my $script = join '', "SET client_min_messages = warning;\n\\echo $mark\n", map { "$_->{sql}\\echo $mark\n" } @blocks;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	append_to_file("$dir/script.sql", do { utf8::encode(my $bytes = $script); $bytes });
	{
		local $ENV{PGHOST} = $node->host;
		local $ENV{PGPORT} = $node->port;
		local $ENV{PGDATABASE} = 'postgres';
		local $ENV{PGCLIENTENCODING} = 'UTF8';
		system("psql --no-psqlrc --pset=pager=off < '$dir/script.sql' > '$dir/output' 2>&1");
	}
	is($? >> 8, 0, "psql runs $path to its end");
	my $output = slurp_file("$dir/output");
	utf8::decode($output);
	my (undef, @printed) = split /^\Q$mark\E\n/m, $output, -1;
	pop @printed;
	is(scalar @printed, scalar @blocks, "$path: every block was run");
	for my $i (0 .. $#blocks)
	{
		my ($block, $printed) = ($blocks[$i], $printed[$i] // '');
		my $where = "$path, line $block->{line}";
		if (defined $block->{output})
		{
			is(settle($printed), settle($block->{output}), "$where prints what the page says");
		}
		else
		{
			unlike($printed, qr/^(?:ERROR|FATAL|PANIC|WARNING):/m, "$where runs") or diag($printed);
		}
	}
	is($node->safe_psql('postgres', "SELECT string_agg(invariant, ', ') FROM billing.verify() WHERE violations > 0"), '',
		"$path leaves nothing broken");
	$node->stop('fast');
	return scalar grep { defined $_->{output} } @blocks;
}

cmp_ok(run_page('docs/tutorial.md', 'tutorial'), '>', 10, 'the tutorial shows what it prints');
cmp_ok(run_page('docs/billing_runs.md', 'runs'), '>', 8, 'the page about billing runs shows what it prints');
cmp_ok(run_page('README.md',        'readme'),   '>=', 2,  'the README shows what it prints');

done_testing;
