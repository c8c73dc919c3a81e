"""Work on many scans: cut into shards, done by this process, by several, by several machines or by a cluster of Ray."""
