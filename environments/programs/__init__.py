"""Small programs that read standard input and print: own ones, drawn by chance, and those of a public data set."""
