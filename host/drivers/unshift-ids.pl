#!/usr/bin/perl
# Gives everything in a folder the ids that its guest saw: takes FIRST from owners between FIRST and FIRST+SIZE-1, and leaves others.
#
#   unshift-ids.pl FOLDER FIRST SIZE
#
# For a copy of a disk that nobody else sees. Perl, since it is on every Debian (perl-base is essential) and reaches extended
# attributes: a change of owner makes the kernel drop setuid bits and file capabilities, which are put back.
use strict;
use warnings;
use POSIX ();

my ($top, $first, $size) = @ARGV;
# Numbers of the system calls lgetxattr and lsetxattr.
my ($lgetxattr, $lsetxattr) = (POSIX::uname())[4] eq 'x86_64' ? (192, 189) : (9, 6);
my $attribute = "security.capability";

sub own { my ($id) = @_; return $id >= $first && $id < $first + $size ? $id - $first : $id }

# The attribute as it is, and as of version 2: without the id of the root for whom it holds, so for everybody's (capabilities(7)).
# Nothing where there is none.
sub capability {
  my ($path) = @_;
  my $value = "\0" x 64;
  my $length = syscall($lgetxattr, $path, $attribute, $value, 64);
  return if $length < 20;
  my ($magic) = unpack("V", $value);
  return (substr($value, 0, $length), pack("V", ($magic & 0x00ffffff) | 0x02000000) . substr($value, 4, 16));
}

sub unshift_owner {
  my ($path) = @_;
  my ($mode, $uid, $gid) = (lstat($path))[2, 4, 5];
  defined $mode or die "$path: $!\n";
  my $regular = POSIX::S_ISREG($mode);
  my ($before, $after) = $regular ? capability($path) : ();
  my $shifted = own($uid) != $uid || own($gid) != $gid;
  if ($shifted) {
    POSIX::lchown(own($uid), own($gid), $path) or die "$path: $!\n";
    if ($regular && $mode & 06000) { chmod($mode & 07777, $path) or die "$path: $!\n" }
  }
  # The engine has unshifted the owners, but not these, where it made one image of many.
  if (defined $after && ($shifted || $after ne $before)) {
    syscall($lsetxattr, $path, $attribute, $after, length($after), 0) == 0 or die "$path: $!\n";
  }
  return unless POSIX::S_ISDIR($mode);
  opendir(my $folder, $path) or die "$path: $!\n";
  my @names = grep { $_ ne "." && $_ ne ".." } readdir($folder);
  closedir($folder);
  unshift_owner("$path/$_") for @names;
}

no warnings "recursion";
unshift_owner($top);
