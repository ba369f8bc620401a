"""Reference pages made of the tables that the programs themselves read. Needs no Sphinx."""
