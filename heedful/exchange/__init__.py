"""Data sets in and out of the store: ``importing`` reads files, ``exporting`` writes them.

Joins the formats, which know no database, with the store, which knows no files.
"""
