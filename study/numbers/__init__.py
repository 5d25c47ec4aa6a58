"""The numbers that pages say, one module a chapter."""
