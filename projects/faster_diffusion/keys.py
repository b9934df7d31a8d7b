"""Which steps of a trajectory are key steps: there the encoder runs; the others decode what it said at the last one.

Steps are counted as sampling takes them: 0 is the noisiest. The paper counts times instead, from the number of steps T
down to 1; its {50, 49, 48, 47, 45, 40, 35, 25, 15} are the steps {0, 1, 2, 3, 5, 10, 15, 25, 35}.
"""

from collections.abc import Iterable, Sequence

from common.errors import UserError, unknown

Keys = int | str | Sequence[int]
"""A set by its name, every how many steps, or the steps themselves."""


def steps_of(times: Iterable[int], total: int) -> tuple[int, ...]:
    """The paper's times t of `total` steps -> steps."""
    return tuple(sorted(total - t for t in times))


NAMED: dict[str, dict[int, tuple[int, ...]]] = {  # name -> number of steps -> key steps (section 3.3, App. F.2)
    "paper": {
        50: (0, 1, 2, 3, 5, 10, 15, 25, 35),
        20: (0, 1, 2, 3, 5, 10, 15),
    },
    "personal": {50: (0, 1, 2, 3, 5, 10, 15, 25, 35, 40)},
    "if": {
        100: steps_of([*range(90, 101), *range(20, 90, 5), *range(1, 16)], 100),
        50: tuple(range(50)),
        75: steps_of((75, 73, 70, 66, 61, 55, 48, 40, 31, 21, 10), 75),
    },
    # Table 5's other sets
    "uniform-9": {50: steps_of((50, 44, 38, 32, 26, 20, 14, 8, 2), 50)},
    "nonuniform-1": {50: steps_of((50, 40, 39, 38, 30, 25, 20, 15, 5), 50)},
    "nonuniform-2": {50: steps_of((50, 30, 25, 20, 15, 14, 5, 4, 3), 50)},
    "nonuniform-3": {50: steps_of((50, 41, 37, 35, 22, 21, 18, 14, 5), 50)},
}


def key_steps(keys: Keys, total: int) -> tuple[int, ...]:
    """The key steps among `total`, rising.

    Args:
        keys: "all", a name of `NAMED` that knows this number of steps, m for every m-th step, or the steps.

    Raises:
        UserError: no such set, none for this number of steps, or steps that are not there; or no step 0, which has
            nothing to reuse.
    """
    if isinstance(keys, bool) or (isinstance(keys, int) and keys < 1):
        raise UserError(f"every {keys}-th step cannot be a key step: give 1 or more")
    if isinstance(keys, int):
        return tuple(range(0, total, keys))
    if isinstance(keys, str):
        if keys == "all":
            return tuple(range(total))
        if keys not in NAMED:
            raise unknown("set of key steps", keys, ("all", *NAMED))
        if total not in NAMED[keys]:
            known = " or ".join(map(str, sorted(NAMED[keys])))
            raise UserError(
                f"the key steps '{keys}' are for {known} steps of sampling, not for {total}: take so many, or name the "
                "key steps yourself (4 means every fourth)"
            )
        return NAMED[keys][total]
    chosen = tuple(sorted(set(keys)))
    if not chosen or chosen[0] != 0:
        raise UserError("step 0 has to be a key step: before it there is nothing to reuse")
    if chosen[-1] >= total:
        raise UserError(f"key step {chosen[-1]} is not among {total} steps, which are 0 to {total - 1}")
    return chosen
