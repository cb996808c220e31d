"""Pages of ``docs/`` that follow from code: variables, keys of files, and commands."""
