"""The documents everything else works on: Host, Profile and Plan. Frozen, with a schema number, no I/O."""
