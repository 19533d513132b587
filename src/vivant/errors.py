"""Everything vivant raises on purpose. One line each: what was expected, what came, what to do.

VivantError
├── InputError              the user's input cannot be used (exit code 2)
│   ├── ImageError          a painting, proxy or mask
│   ├── PromptError         the sentence
│   └── SettingError        a number or name out of range
├── OutputError             the result cannot be written (exit code 2)
└── ModelError              a base model cannot be used (exit code 1)
    ├── WeightsError        missing, truncated, mismatched or unsafe weights
    └── DependencyError     an optional package is missing
"""


class VivantError(Exception):
    """Root of the tree; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(VivantError):
    """The user's input cannot be used."""

    exit_code = 2


class ImageError(InputError):
    """A painting, proxy or mask cannot be used."""


class PromptError(InputError):
    """The sentence cannot be used."""


class SettingError(InputError):
    """A number or a name is out of range."""


class OutputError(VivantError):
    """The result cannot be written."""

    exit_code = 2


class ModelError(VivantError):
    """A base model cannot be used."""


class WeightsError(ModelError):
    """Weights are missing, truncated, mismatched or unsafe."""


class DependencyError(ModelError):
    """An optional package is missing."""
