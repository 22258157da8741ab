"""From the files of strangers to pixels: the header first, then a process that may die."""
