"""The data sets that can be used without a directory."""

from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from grfd.data import describe
from grfd.progress import answer_alone, console, print_json


def data_command(*, json: bool = False) -> None:
    """List the data sets: where they are, their sources, and whether their checksums are right.

    Args:
        json: Print a list with one object for each data set. "problem" says what is wrong with a checksum.
    """
    with answer_alone(json):
        rows = describe()
    if json:
        print_json([asdict(row) for row in rows])
        return
    table = Table("data set", "train", "test", "shape", "classes", "checksum", "location")
    notes = []
    for row in rows:
        shape = "×".join(map(str, row.shape))
        checksum = Text("right") if row.checksum_right else Text(row.problem, "red")
        state = checksum if row.there else Text("not here yet")
        table.add_row(row.name, f"{row.train:,}", f"{row.test:,}", shape, str(row.classes), state, row.location)
        notes.append(f"{row.name}: {row.source} {row.licence}")
    console.print(table)
    console.print("\n".join(notes))
    console.print("A data set that is not here yet is downloaded when it is first used, or read from --data-dir DIR.")
    console.print("folder: your own images, one folder for each class, with --data folder --data-dir DIR")
