#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The sqlite3 shell fills, updates, indexes and deletes in a database in memory while its pages move to and fro: the
# integrity check says ok, and the dump of the whole database is the one of a run alone.
#
#   SQLITE_ROWS=200000   rows of about 200 bytes
#
# test-timeout: 300
# shellcheck source=program.bash
. "$(dirname "$0")/program.bash"
need sqlite3
rows=${SQLITE_ROWS:-$((200000 * scale))}

# Values follow from their numbers: no clock, no random().
cat >"$dir/work.sql" <<SQL
.bail on
PRAGMA cache_size = -1000000;
PRAGMA temp_store = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, word TEXT, number INTEGER, body BLOB);
CREATE TABLE change (item INTEGER, what TEXT);
CREATE TRIGGER note AFTER UPDATE OF number ON item WHEN old.id % 7 = 0
	BEGIN INSERT INTO change VALUES (old.id, old.number || '>' || new.number); END;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $rows)
	INSERT INTO item SELECT i, printf('word-%08x', (i * 2654435761) % 4294967296), i * 48271 % 1000003,
		printf('%0*d', 40 + i % 160, i * 7919) FROM n;
CREATE INDEX by_word ON item (word);
CREATE INDEX by_number ON item (number, id);
BEGIN;
UPDATE item SET number = number * 31 % 1000003 WHERE id % 3 = 0;
UPDATE item SET body = body || upper(word) || body WHERE id % 11 = 0;
SAVEPOINT undone;
DELETE FROM item WHERE id % 2 = 0;
ROLLBACK TO undone;
DELETE FROM item WHERE id % 5 = 1;
COMMIT;
CREATE TABLE sorted AS SELECT word, count(*) OVER (ORDER BY word) AS place FROM item WHERE id % 4 = 0 ORDER BY body DESC;
INSERT INTO change SELECT a.id, b.word FROM item a JOIN item b ON b.number = a.number + 1 WHERE a.id % 3 = 1;
DROP INDEX by_number;
REINDEX;
VACUUM;
PRAGMA integrity_check;
SELECT count(*), sum(number), sum(length(body)), min(word), max(word) FROM item;
.dump
SQL

compare sqlite3 sqlite3 -batch :memory: ".read '$dir/work.sql'"
ok 'its integrity check says ok' grep -qx ok "$dir/managed/out"
ok_moves 50000
end_tests
