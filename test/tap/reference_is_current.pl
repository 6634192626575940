# docs/reference.md says what the catalog says: run make docs after a change of a comment or of a signature.
use strict;
use warnings;

use Test::More;

sub lines_of
{
	my ($open, @source) = @_;
	open my $in, $open, @source or return ();
	my @lines = <$in>;
	close $in or diag("@source: exit status " . ($? >> 8));
	return @lines;
}

my @catalog = lines_of('-|', 'docs/reference', '--print');
my @file    = lines_of('<', 'docs/reference.md');

cmp_ok(scalar @catalog, '>', 20, 'the catalog gives a reference');
is_deeply(\@file, \@catalog, 'docs/reference.md is what make docs writes');
ok(!(grep { /^## without a room/ } @catalog), 'every object is created in a room');

done_testing;
