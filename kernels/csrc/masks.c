typedef int rzk_nothing_here_yet;
