# A room uses only rooms before it: prints the offenders.
# In C: the headers that a file includes, and the objects that its SQL statements name.
# In SQL: PostgreSQL itself refuses a BEGIN ATOMIC body, a view or a key that names what does not exist yet.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Rooms;

my @rooms = Rooms::list();
my %position;
@position{@rooms} = 0 .. $#rooms;
my %home = Rooms::homes();

for my $file (glob 'src/*/*.[ch]')
{
	my ($room) = $file =~ m{^src/(\w+)/};
	defined $position{$room} or next;
	my $text = Rooms::slurp($file);
	my $string = qr{"(?:\\.|[^"\\])*"};
	$text =~ s{(/\*.*?\*/)}{ $1 =~ s/[^\n]//gr }gse;
	# Advice to a person may name any room
	$text =~ s{(\berr(?:msg|detail|hint)\w*\s*\((?:[^"()]|$string|\((?:[^"()]|$string)*\))*\))}{ $1 =~ s/[^\n]//gr }gse;
	my $line = 0;
	for (split /\n/, $text)
	{
		$line++;
		if (/^\s*#\s*include\s+"(\w+)\/\w+\.h"/ && exists $position{$1} && $position{$1} > $position{$room})
		{
			print "$file:$line: $room includes $1, a later room\n";
		}
		for my $name (map { /\b(billing(?:_internal)?\.\w+)/g } /$string/g)
		{
			my $owner = $home{ lc $name } or next;
			print "$file:$line: $room uses $name of $owner, a later room\n" if $position{$owner} > $position{$room};
		}
	}
}
