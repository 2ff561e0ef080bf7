from hypothesis import example, given
from hypothesis import strategies as st

from nnunet_ext.planning.search import Search, largest_batch

LOWEST = 2


@given(
    fixed=st.integers(0, 10**6),
    growth=st.lists(st.integers(0, 5000), min_size=1, max_size=60),
    room=st.integers(0, 10**5),
)
@example(fixed=0, growth=[0] * 40, room=0)
@example(fixed=0, growth=[1] * 30 + [10**4] + [1] * 20, room=29)
def test_the_largest_batch_is_that_of_a_walk_through_all(fixed, growth, room):
    sizes = [fixed + sum(growth[: i + 1]) + 1 for i in range(len(growth))]
    needed = dict(enumerate(sizes, LOWEST))
    limit = sizes[0] + room
    walked = max(batch for batch, size in needed.items() if size <= limit)
    assert largest_batch(needed.__getitem__, limit, LOWEST, max(needed)) == walked


@given(fixed=st.integers(0, 10**9), each=st.integers(1, 10**8), batch=st.integers(2, 1400))
def test_in_proportion_to_the_batch_it_takes_few_predictions(fixed, each, batch):
    asked = []

    def needed(b):
        asked.append(b)
        return fixed + b * each

    assert largest_batch(needed, fixed + batch * each, LOWEST, 1500) == batch
    assert len(set(asked)) <= 6


def test_a_patch_grows_to_nnunets_largest_and_no_further():
    def offer(shape):
        return {"patch_size": list(shape)}

    search = Search(offer, lambda *_: 1, 10, image=(9.0, 9.0, 9.0), largest=(4, 4, 4), lowest=LOWEST)
    assert [plan["patch_size"] for plan in search.larger((3, 4, 4))] == [[4, 4, 4]]
    assert list(search.larger((4, 4, 4))) == []
