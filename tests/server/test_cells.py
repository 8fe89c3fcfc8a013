"""Laws of orders that are put to cells: a cell counts as one, and one that failed is left out whole and by name."""

from collections.abc import Callable

import numpy as np
import pytest

from jangin.errors import LinkError, ServerError
from jangin.server.cells import Cell, together
from jangin.server.rounds import RoundRecord
from jangin.strategies.base import Gathered

Asked = Callable[[], tuple[RoundRecord, Gathered]]


def cell(number: int, size: int = 4, failing: Exception | None = None) -> Cell:
    """A cell of sites that give 10 * its number + their own; the first abstains, if there are more than four."""
    sites = tuple(f"{number}-{site}" for site in range(size))

    def ask() -> tuple[RoundRecord, Gathered]:
        if failing is not None:
            raise failing
        away = {sites[0]: "JG-site-320"} if size > 4 else {}
        here = [site for site in range(size) if sites[site] not in away]
        record = RoundRecord(2, tuple(sites[site] for site in here), away, ())
        return record, np.array([sum(10.0 * number + site for site in here), len(here)])

    return sites, ask


def failed(number: int) -> ServerError:
    return ServerError("JG-server-001", where="x", reported=1, quorum=4, abstained={f"{number}-1": "a"}, missing=())


def test_rows_are_the_means_of_cells_and_sums_are_added_up() -> None:
    cells = [cell(1), cell(2, 5), cell(3)]
    record, rows = together(2, cells, single=True)
    np.testing.assert_allclose(rows, [[11.5, 1.0], [22.5, 1.0], [31.5, 1.0]])
    same, total = together(2, cells, single=False)
    assert record == same
    np.testing.assert_allclose(total, [46.0 + 90.0 + 126.0, 12.0])
    assert len(record.reported) == 12
    assert record.abstained == {"2-0": "JG-site-320"}


def test_a_cell_whose_sum_failed_is_left_out_whole_and_its_sites_are_named() -> None:
    record, rows = together(2, [cell(1), cell(2, failing=failed(2)), cell(3), cell(4)], single=True)
    np.testing.assert_allclose(rows[:, 0], [11.5, 31.5, 41.5])
    assert not any(site.startswith("2-") for site in record.reported)
    assert record.abstained == {"2-1": "a"}
    assert record.missing == ("2-0", "2-2", "2-3")


@pytest.mark.parametrize(("all_of_them", "failing"), [(3, 1), (4, 2), (7, 4), (8, 4)])
def test_fewer_than_three_cells_or_no_majority_of_them_is_no_round(all_of_them: int, failing: int) -> None:
    cells = [cell(number, failing=failed(number) if number < failing else None) for number in range(all_of_them)]
    with pytest.raises(
        ServerError, match=rf"JG-server-001 round 2, {all_of_them - failing} of {all_of_them} cells"
    ) as e:
        together(2, cells, single=True)
    named = {*e.value.coded.values["abstained"], *e.value.coded.values["missing"]}
    assert named == {site for sites, _ in cells[:failing] for site in sites}
    together(2, [cell(failing), *cells[1:]], single=True)


def test_one_sum_is_as_it_is_without_cells() -> None:
    error = failed(1)
    with pytest.raises(ServerError) as caught:
        together(2, [cell(1, failing=error)], single=False)
    assert caught.value is error
    assert together(2, [cell(1)], single=False)[0].reported == cell(1)[0]


def test_the_end_of_a_run_is_no_failed_cell() -> None:
    with pytest.raises(LinkError, match="JG-server-204"):
        together(2, [cell(1), cell(2, failing=LinkError("JG-server-204", where="x")), cell(3), cell(4)], single=True)
