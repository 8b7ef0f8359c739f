"""The durable state: SQLite (WAL, synchronous=FULL), one transaction for each batch, fenced by the master's epoch.

Every record is one row of its table, `key` and the JSON `body`. A Store is used by one thread at a time.

StoreError
├── StoreFenced     another master has started on this store: this one must end at once
├── StoreFull       no space is left: nothing of the batch was written
├── StoreLocked     another program holds the database for longer than `LOCK_WAIT_S`
├── StoreNewer      it was written by a newer Quorate
└── StoreDamaged    the integrity check found something, or a record cannot be read
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import StaticPool

from quorate.master import migrations
from quorate.master.records import TABLES, Change, Put, Record, decode_record, encode_record
from quorate.master.state import Identity
from quorate.model.messages import EpochMark

T = TypeVar("T")

_RESTORE: Final = "Restore a backup: quorate master restore"
LOCK_WAIT_S: Final = 10.0
HISTORY: Final = 1000

metadata = sa.MetaData()
tables: Final = {
    kind: sa.Table(name, metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("body", sa.LargeBinary))
    for kind, name in TABLES.items()
}
#: One row: which cluster, the newest epoch, and the number of commits.
cluster: Final = sa.Table(
    "cluster",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("restored", sa.Boolean, nullable=False),
)
epochs: Final = sa.Table(
    "epochs",
    metadata,
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("mark", sa.Text, nullable=False),
    sa.Column("first_generation", sa.Integer, nullable=False),
)


def _sql(statement: sa.sql.expression.ClauseElement) -> str:
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))


def _upsert(table: sa.Table) -> str:
    statement = sqlite.insert(table)
    return _sql(statement.on_conflict_do_update(index_elements=["key"], set_={"body": statement.excluded.body}))


# What every start and every commit runs is compiled once.
_CLUSTER: Final = _sql(sa.select(cluster))
_FOUND: Final = _sql(sa.insert(cluster))
_TAKE_OVER: Final = _sql(sa.update(cluster).values(epoch=sa.bindparam("to"), generation=sa.bindparam("first")))
_BEGIN_EPOCH: Final = _sql(sa.insert(epochs))
_FORGET_EPOCHS: Final = _sql(sa.delete(epochs).where(epochs.c.epoch <= sa.bindparam("last")))
_EPOCHS: Final = _sql(sa.select(epochs).order_by(epochs.c.epoch))
_EPOCH: Final = _sql(sa.select(cluster.c.epoch))
_ADVANCE: Final = _sql(
    sa.update(cluster).where(cluster.c.epoch == sa.bindparam("fence")).values(generation=sa.bindparam("to"))
)
_RESTORED: Final = _sql(sa.update(cluster).values(restored=sa.bindparam("to")))
_SELECTS: Final = {kind: _sql(sa.select(table.c.key, table.c.body)) for kind, table in tables.items()}
_UPSERTS: Final = {kind: _upsert(table) for kind, table in tables.items()}
_DELETES: Final = {
    kind: _sql(sa.delete(table).where(table.c.key == sa.bindparam("k"))) for kind, table in tables.items()
}


class StoreError(Exception):
    """The store cannot be used; the text says why and what to do."""


class StoreFenced(StoreError):
    """Another master took the store over."""


class StoreFull(StoreError):
    """The disk (or the quota) is full."""


class StoreLocked(StoreError):
    """Somebody else holds the database."""


class StoreNewer(StoreError):
    """The schema is of a later version than this program knows."""


class StoreDamaged(StoreError):
    """What is stored cannot be trusted."""


class Store:
    """The database of one cluster. Make it with `open_store`, end it with `close`."""

    def __init__(self, engine: sa.Engine, where: str) -> None:
        self._engine = engine
        self._where = where
        self._epoch = 0
        self._connection = self._guarded(engine.connect)

    # --- opening ----------------------------------------------------------------------------------------------------

    def begin_epoch(self, cluster_id: str, mark: str) -> tuple[Identity, int]:
        """Takes the store over: from here on no earlier master can write. Returns who we are and the generation.

        `cluster_id` names the cluster if the store is new, `mark` is random and of this start alone.
        """

        def take_over(connection: sa.Connection) -> tuple[Identity, int]:
            run = connection.exec_driver_sql
            row = run(_CLUSTER).one_or_none()
            if row is None:
                run(_FOUND, {"id": cluster_id, "epoch": 0, "generation": 0, "restored": False})
                row = run(_CLUSTER).one()
            epoch, generation = row.epoch + 1, row.generation + 1
            run(_TAKE_OVER, {"to": epoch, "first": generation})
            run(_BEGIN_EPOCH, {"epoch": epoch, "mark": mark, "first_generation": generation})
            run(_FORGET_EPOCHS, {"last": epoch - HISTORY})
            marks = run(_EPOCHS).all()
            history = tuple(msgspec.convert((m.epoch, m.mark, m.first_generation), EpochMark) for m in marks)
            return Identity(row.id, epoch, mark, history, bool(row.restored)), generation

        try:
            identity, generation = self._transact(take_over)
        except (TypeError, ValueError, msgspec.MsgspecError, sa.exc.InvalidRequestError) as error:
            raise self.damaged(f"the row of its cluster, or of an epoch, is none ({error})") from error
        self._epoch = identity.epoch
        return identity, generation

    def load(self) -> dict[type[Record], list[Record]]:
        """Everything that is stored; raises StoreDamaged for a record that cannot be read."""
        return self._transact(lambda connection: {kind: self._load(connection, kind) for kind in TABLES})

    def _load(self, connection: sa.Connection, kind: type[Record]) -> list[Record]:
        records = []
        for key, body in connection.exec_driver_sql(_SELECTS[kind]):
            try:
                records.append(decode_record(kind, body))
            except (msgspec.MsgspecError, ValueError) as error:
                raise self.damaged(f"{TABLES[kind]} {key} cannot be read: {error}") from error
        return records

    def damaged(self, why: str) -> StoreDamaged:
        """The error for a store that can be read, and yet not be used."""
        return StoreDamaged(f"{self._where}: {why}. {_RESTORE}")

    # --- writing ----------------------------------------------------------------------------------------------------

    def commit(self, generation: int, changes: Sequence[Change], restored: bool | None = None) -> None:
        """Writes one batch whole and durably, or raises and writes nothing.

        An empty batch only checks that this master is still the one. `restored`: a new value for that mark.
        """
        self._guarded(lambda: self._write(generation, changes, restored))

    def _write(self, generation: int, changes: Sequence[Change], restored: bool | None) -> None:
        # Straight to the driver: every answer of the master waits for this, and the statements are always the same.
        raw = self._raw
        raw.execute("BEGIN IMMEDIATE")
        try:
            if not changes and restored is None:
                if raw.execute(_EPOCH).fetchone() != (self._epoch,):
                    raise self._fenced()
            elif raw.execute(_ADVANCE, {"fence": self._epoch, "to": generation}).rowcount != 1:
                raise self._fenced()
            if restored is not None:
                raw.execute(_RESTORED, {"to": restored})
            for kind, (puts, drops) in _by_kind(changes).items():
                if puts:
                    raw.executemany(_UPSERTS[kind], puts)
                if drops:
                    raw.executemany(_DELETES[kind], drops)
            raw.execute("COMMIT")
        except BaseException:
            raw.rollback()
            raise

    def _fenced(self) -> StoreFenced:
        return StoreFenced(
            f"{self._where}: another master has taken over this store; this one (epoch {self._epoch}) ends"
        )

    # --- backup -----------------------------------------------------------------------------------------------------

    def backup(self, target: Path) -> None:
        """Copies the store as it is now to a new file, marked as a copy: whoever starts on it must adopt it."""
        if target.exists():
            raise StoreError(f"{target} exists already; choose another name for the backup")
        copy = sqlite3.connect(target)
        try:
            self.copy_to(copy)
        finally:
            copy.close()

    def copy_to(self, copy: sqlite3.Connection) -> None:
        """As `backup`, into an open database."""
        self._raw.backup(copy)
        copy.execute("UPDATE cluster SET restored = 1")
        copy.commit()
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Gives the database back."""
        self._connection.close()
        self._engine.dispose()

    @property
    def _raw(self) -> sqlite3.Connection:
        raw = self._connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        return raw

    # --- one way in -------------------------------------------------------------------------------------------------

    def _transact(self, work: Callable[[sa.Connection], T]) -> T:
        def whole() -> T:
            with self._connection.begin():
                return work(self._connection)

        return self._guarded(whole)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sa.exc.DBAPIError as error:
            raise _translate(error.orig, self._where) from error
        except sqlite3.Error as error:
            raise _translate(error, self._where) from error


def _by_kind(changes: Iterable[Change]) -> dict[type[Record], tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """The last change of each durable record, as parameters of statements."""
    newest: dict[tuple[type[Record], str], Record | None] = {}
    for change in changes:
        if isinstance(change, Put):
            newest[type(change.record), change.record.key] = change.record
        else:
            newest[change.kind, change.key] = None
    sorted_out: dict[type[Record], tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {}
    for (kind, key), record in newest.items():
        puts, drops = sorted_out.setdefault(kind, ([], []))
        if record is None:
            drops.append({"k": key})
        else:
            puts.append({"key": key, "body": encode_record(record)})
    return sorted_out


def _translate(error: BaseException | None, where: str) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC")):
        return StoreFull(f"{where}: the disk is full ({error}); make room and start the master again, nothing is lost")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreLocked(f"{where}: another program holds the database; stop it and start the master again")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreDamaged(f"{where}: {error}. {_RESTORE}")
    return StoreError(f"{where}: {error}")


def _prepare(connection: Any, _record: Any) -> None:
    # The driver's own transactions would begin too late for the fence: a write lock is taken at once (see _begin).
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={int(LOCK_WAIT_S * 1000)}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _engine_for(connect: Callable[[], sqlite3.Connection]) -> sa.Engine:
    engine = sa.create_engine("sqlite://", creator=connect, poolclass=StaticPool)
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def open_store(path: Path) -> Store:
    """Opens the file (makes it if it is not there), checks it, and brings its schema up to date.

    Raises StoreNewer, StoreDamaged, StoreLocked, StoreFull or StoreError.
    """
    where = str(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{where}: {error.strerror}") from error
    return open_on(lambda: sqlite3.connect(path, check_same_thread=False, timeout=LOCK_WAIT_S), where)


def open_on(connect: Callable[[], sqlite3.Connection], where: str) -> Store:
    """Opens whatever database `connect` leads to; `where` names it in errors."""
    engine = _engine_for(connect)
    store = Store(engine, where)
    try:
        store._guarded(lambda: _check(store._connection, where))
        try:
            store._guarded(lambda: migrations.upgrade(store._connection))
        except migrations.NewerSchema as error:
            raise StoreNewer(
                f"{where} was written by a newer Quorate (schema {error.found}, known up to {error.known}); "
                "upgrade this master"
            ) from error
    except BaseException:
        store.close()
        raise
    return store


def _check(connection: sa.Connection, where: str) -> None:
    with connection.begin():
        found = [row[0] for row in connection.exec_driver_sql("PRAGMA quick_check(10)")]
    if found != ["ok"]:
        raise StoreDamaged(f"{where} is damaged: {found[0]}. {_RESTORE}")
