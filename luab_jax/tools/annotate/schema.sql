-- The tables of a study. Times are ms since 1970 by the server's clock unless said otherwise.
CREATE TABLE image (
  id INTEGER PRIMARY KEY,
  sha256 TEXT NOT NULL,           -- of the original file
  path TEXT NOT NULL UNIQUE,      -- of the original file, relative to the folder of images
  class TEXT NOT NULL,            -- '' where it is not known (icons)
  width INTEGER NOT NULL,         -- of the original, upright, in px
  height INTEGER NOT NULL,
  rendition TEXT NOT NULL UNIQUE, -- name under /i/ and in renditions/
  state TEXT NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'reported'))
);
CREATE TABLE page (
  id INTEGER PRIMARY KEY,
  task TEXT NOT NULL CHECK (task IN ('grid', 'icons')),
  class TEXT NOT NULL,            -- what a grid asks for; '' for icons
  position INTEGER NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK (kind IN ('work', 'practice'))
);
CREATE TABLE page_image (
  page INTEGER NOT NULL REFERENCES page,
  slot INTEGER NOT NULL,
  image INTEGER NOT NULL REFERENCES image,
  gold INTEGER,                   -- 1, 0: known to hold the class or not; NULL: not known
  PRIMARY KEY (page, slot)
) WITHOUT ROWID;
CREATE TABLE worker (
  id TEXT PRIMARY KEY,            -- 10 hex digits
  state TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'withdrawn')),
  token TEXT UNIQUE               -- sha256 of the token in a personal link; NULL without one
) WITHOUT ROWID;
CREATE TABLE session (
  id INTEGER PRIMARY KEY,
  worker TEXT NOT NULL REFERENCES worker,
  token TEXT NOT NULL UNIQUE,     -- sha256 of the bearer token
  hit_id TEXT NOT NULL DEFAULT '',
  assignment_id TEXT NOT NULL DEFAULT '',
  consent_at INTEGER NOT NULL,
  pointer TEXT NOT NULL,          -- what the browser says of its pointer: fine, coarse
  code TEXT,                      -- completion code, once all its pages are done
  UNIQUE (worker, hit_id, assignment_id)
);
CREATE TABLE lease (
  id INTEGER PRIMARY KEY,
  page INTEGER NOT NULL REFERENCES page,
  worker TEXT NOT NULL REFERENCES worker,
  session INTEGER NOT NULL REFERENCES session,
  tab TEXT NOT NULL,              -- the tab that may write
  issued INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'expired', 'rejected'))
);
CREATE UNIQUE INDEX one_lease_of_a_page ON lease (page, worker)
  WHERE state IN ('open', 'done');
CREATE INDEX leases_of_a_page ON lease (page, state);
CREATE INDEX leases_of_a_worker ON lease (worker);
CREATE INDEX open_leases ON lease (expires) WHERE state = 'open';
CREATE TABLE batch (
  lease INTEGER NOT NULL REFERENCES lease,
  seq INTEGER NOT NULL,
  client_ms REAL NOT NULL,        -- origin + sent, by the browser's clock
  server_ms INTEGER NOT NULL,
  events BLOB NOT NULL,           -- the request as it came: JSON of events.Batch
  PRIMARY KEY (lease, seq)
) WITHOUT ROWID;
CREATE TABLE answer (
  lease INTEGER PRIMARY KEY REFERENCES lease,
  last_seq INTEGER NOT NULL,
  state BLOB NOT NULL,            -- JSON of events.Submit
  submitted INTEGER NOT NULL,
  verdict TEXT CHECK (verdict IN ('accepted', 'rejected'))
);
CREATE TABLE quality (
  lease INTEGER PRIMARY KEY REFERENCES answer,
  features BLOB NOT NULL,         -- JSON
  flags TEXT NOT NULL             -- words, separated by blanks
);
