# The rooms, and which of them creates what: from the Makefile and the sources, because the catalog does not know rooms.
package Rooms;

use strict;
use warnings;

my @kinds = qw(TABLE VIEW FUNCTION PROCEDURE AGGREGATE TYPE DOMAIN SEQUENCE);

sub slurp
{
	my ($path) = @_;
	open my $file, '<', $path or die "$path: $!";
	local $/;
	return scalar <$file> // '';
}

# The rooms in their order
sub list
{
	my ($line) = slurp('Makefile') =~ /^ROOMS\s*=\s*(.*)$/m;
	return split ' ', $line;
}

# Name of an object, such as billing.invoice => the room whose SQL creates it
sub homes
{
	my $kind = join '|', @kinds;
	my %home;
	for my $room (list())
	{
		for my $file (glob "src/$room/*.sql")
		{
			my $text = slurp($file);
			$home{ lc $1 } //= $room
			  while $text =~ /^CREATE\s+(?:OR\s+REPLACE\s+)?(?:$kind)\s+(?:IF\s+NOT\s+EXISTS\s+)?(billing\w*\.\w+)/gim;
		}
	}
	return %home;
}

1;
