"""All SQL lives here: ``open_store``, then one module of functions per noun.

    with open_store("heedful.db") as store, store.write() as tx:
        completions.add(tx, [completion])

Every function takes the transaction it runs in; ``add`` functions return how many rows were new.
"""

from heedful.store.database import Store, Transaction, open_store

__all__ = ["Store", "Transaction", "open_store"]
