"""The report's sections: evidence in, tables and figures out; nothing is written here."""
