# Print which room creates which object, as JSON for docs/reference.sql: {"billing.invoice": [8, "invoicing"], ...}
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Rooms;

my @rooms = Rooms::list();
my %position;
@position{@rooms} = 0 .. $#rooms;
my %home = Rooms::homes();
print '{', join(', ', map { sprintf '"%s": [%d, "%s"]', $_, $position{ $home{$_} }, $home{$_} } sort keys %home), "}\n";
