-- What the parser's role does with a file. `dr restore` and `dr drill` run it as that role in a database that came back, in one transaction that is
-- rolled back: it says that the tables, the grants and the role's password have come back together.
SELECT file_id FROM files LIMIT 1;
CREATE TEMPORARY TABLE trial_rows (line bigint, content jsonb);
INSERT INTO trial_rows VALUES (1, '{"trial": true}');
INSERT INTO files (file_id, bucket, key, version, caller, filename, format, sha256, size_bytes, rows_accepted, rows_rejected)
VALUES ('00000000-0000-7000-8000-74726961006c', 'trial', 'trial', 'trial', 'trial', NULL, 'csv', repeat('0', 64), 0, 1, 1);
INSERT INTO records (file_id, line, content) SELECT '00000000-0000-7000-8000-74726961006c'::uuid, line, content FROM trial_rows;
INSERT INTO rejected_rows (file_id, line, reason, start) VALUES ('00000000-0000-7000-8000-74726961006c', 2, 'trial', '');
INSERT INTO outbox (event_id, topic, key, payload) VALUES ('00000000-0000-7000-8000-74726961006c', 'file.parsed', 'trial', '{}');
UPDATE outbox SET published_at = now() WHERE event_id = '00000000-0000-7000-8000-74726961006c';
DELETE FROM files WHERE file_id = '00000000-0000-7000-8000-74726961006c';
