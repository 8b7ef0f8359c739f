"""What the context of a job may be at most: the client keeps to it, the master checks it."""

from typing import Final

#: Files, folders and links.
MAX_FILES: Final = 20_000
#: Bytes of all files together, unpacked.
MAX_BYTES: Final = 512 * 1024 * 1024
#: Bytes of the archive.
MAX_PACKED_BYTES: Final = 256 * 1024 * 1024
#: Characters of one path within it.
MAX_PATH: Final = 1024
