"""Which data sets are there."""

from rich.table import Table
from rich.text import Text

from grfd.data.available import describe
from grfd.progress import console


def data() -> None:
    """Say which data sets are there, where they come from, and whether their checksums are right."""
    table = Table("data set", "train", "test", "shape", "classes", "checksum", "location")
    notes = []
    for row in describe():
        shape = "×".join(map(str, row.shape))
        state = Text("right") if row.checksum_right else Text(row.problem, "red")
        shown = state if row.there else Text("not here yet")
        table.add_row(row.name, f"{row.train:,}", f"{row.test:,}", shape, str(row.classes), shown, row.location)
        notes.append(f"{row.name}: {row.source} {row.licence}")
    console.print(table)
    console.print("\n".join(notes))
    console.print("What is not here yet is downloaded where it is first asked for, or read from --data-dir DIR.")
    console.print("folder: one folder of images a class, with --data folder --data-dir DIR")
