"""The one error tree. Catch ``HeedfulError`` broadly, a leaf to recover.

    HeedfulError
    ├── UserError (ValueError)          exit code 2: the input, the config or the command is wrong
    │   ├── DataError                   a file, row or record is malformed
    │   ├── ConfigError                 an unknown key, a value out of range
    │   └── MissingError (LookupError)  a file, model, data set or record that is not there
    ├── ProofError (AssertionError)     exit code 1: a start-up proof failed; no run
    ├── NumericsError (ArithmeticError) exit code 1: NaN or infinity in a loss, gradient or logit
    └── ResourceError (OSError)         exit code 1: disk or memory does not suffice
        └── StoreError                  the database cannot be read or written now

A message says what failed, the value seen, what is allowed and what to do, on one line.
"""


class HeedfulError(Exception):
    """Root of every error that Heedful raises on purpose."""

    exit_code = 1


class UserError(HeedfulError, ValueError):
    """The caller can mend it by changing input, config or command."""

    exit_code = 2


class DataError(UserError):
    """A file, row or record is malformed; names the file and line where there is one."""


class ConfigError(UserError):
    """A config key is unknown or a value is out of its range."""


class MissingError(UserError, LookupError):
    """A file, model, data set or record that was named does not exist."""


class ProofError(HeedfulError, AssertionError):
    """An invariant that is proved at start-up does not hold; the run refuses to start."""


class NumericsError(HeedfulError, ArithmeticError):
    """NaN or infinity; names the first tensor and the ids of the batch."""


class ResourceError(HeedfulError, OSError):
    """Disk or memory does not suffice; says how much is needed and how much there is."""


class StoreError(ResourceError):
    """The database cannot be read or written now; another try may do.

    Says which and why, in the words of its server: for who runs it, not for who visits a page.
    """
