-- parser_migrate owns the tables; parser_run, the role of the running service, only reads and writes rows.
GRANT SELECT, INSERT, DELETE ON files, records, rejected_rows TO parser_run;
GRANT SELECT, INSERT, UPDATE ON outbox TO parser_run;
