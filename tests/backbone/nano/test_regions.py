from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from skimage.metrics import adapted_rand_error

from everymask.backbone.nano.regions import (
    RegionConfig,
    colour_gradient,
    find_cells,
    lab_image,
    merge_regions,
    merge_tree,
    region_adjacency,
    region_means,
)


def cells_of(image: NDArray[np.uint8], **options: float) -> NDArray[np.int64]:
    lab = lab_image(image)
    nothing = np.zeros(image.shape[:2], dtype=np.float32)
    return find_cells(lab, colour_gradient(lab), nothing, RegionConfig(**options))  # type: ignore[arg-type]


def test_cells_are_connected_and_at_most_as_many_as_asked_for() -> None:
    image = np.random.default_rng(0).integers(0, 256, size=(60, 80, 3), dtype=np.uint8)
    cells = cells_of(image, max_cells=40)
    assert sorted(np.unique(cells)) == list(range(40))
    assert all(label(cells == cell, connectivity=1).max() == 1 for cell in range(40))


def test_cells_do_not_cross_a_strong_edge(shapes: NDArray[np.uint8]) -> None:
    cells = cells_of(shapes, max_cells=24)
    disc = shapes[..., 0] > 160
    inside = np.bincount(cells[disc], minlength=24) / np.bincount(cells.reshape(-1))
    area = np.bincount(cells.reshape(-1))
    covered = area[inside > 0.5].sum()
    assert np.bincount(cells[disc], minlength=24)[inside > 0.5].sum() / (disc.sum() + covered) > 0.46


def test_a_learned_border_keeps_apart_what_colour_does_not() -> None:
    noise = np.random.default_rng(0).normal(50, 1, size=(40, 60, 1)).astype(np.float32)
    lab = np.concatenate([noise, np.zeros((40, 60, 2), dtype=np.float32)], axis=2)
    boundary = np.zeros((40, 60), dtype=np.float32)
    boundary[:, 30] = 1
    cells = find_cells(lab, colour_gradient(lab), boundary, RegionConfig(max_cells=2))
    assert cells.max() == 1
    assert (cells[:, :29] == cells[0, 0]).all()
    assert (cells[:, 32:] == cells[0, -1]).all()


def test_adjacency_and_means_against_loops() -> None:
    labels = np.random.default_rng(3).integers(0, 5, size=(7, 9))
    plane = np.random.default_rng(4).random((7, 9, 1)).astype(np.float32)
    edges = region_adjacency(labels, plane)
    seen: dict[tuple[int, int], list[float]] = {}
    for y in range(7):
        for x in range(9):
            for y2, x2 in ((y, x + 1), (y + 1, x)):
                if y2 < 7 and x2 < 9 and labels[y, x] != labels[y2, x2]:
                    pair = tuple(sorted((int(labels[y, x]), int(labels[y2, x2]))))
                    seen.setdefault(pair, []).append(max(plane[y, x, 0], plane[y2, x2, 0]))
    assert {tuple(pair) for pair in edges.pairs.tolist()} == set(seen)
    for pair, length, value in zip(edges.pairs.tolist(), edges.length, edges.values[:, 0], strict=True):
        assert length == len(seen[tuple(pair)])
        np.testing.assert_allclose(value, np.mean(seen[tuple(pair)]), rtol=1e-5)
    area, mean = region_means(labels, plane)
    for region in range(5):
        assert area[region] == (labels == region).sum()
        np.testing.assert_allclose(mean[region, 0], plane[labels == region].mean(), rtol=1e-5)


def test_merge_tree_joins_the_most_alike_first_and_knows_every_region() -> None:
    labels = np.repeat(np.arange(4), 5)[None].repeat(3, axis=0)  # Four strips in a row.
    value = np.array([0.0, 1.0, 10.0, 12.0], dtype=np.float32)[:, None]
    edges = region_adjacency(labels, np.zeros((3, 20, 1), dtype=np.float32))
    tree = merge_tree(np.full(4, 15.0, dtype=np.float32), value, edges, np.zeros(3, dtype=np.float32), 0.0)
    assert tree.regions_left.tolist() == [[4, 3, 1, 1], [3, 4, 1, 1], [1, 1, 4, 2], [1, 1, 2, 4]]
    assert tree.area[0].tolist() == [15, 30, 60, 60]
    assert tree.height[0, 1] == 1
    assert tree.height[2, 3] == 4
    assert (np.diff(np.unique(tree.height)) > 0).all()
    assert (tree.height == tree.height.T).all()


def test_merging_in_rounds_is_merging_one_by_one_where_colour_alone_counts() -> None:
    rng = np.random.default_rng(5)
    labels = np.arange(48).reshape(6, 8).repeat(4, axis=0).repeat(4, axis=1)
    colour = rng.normal(0, 10, (48, 3)).astype(np.float32)
    edges = region_adjacency(labels, np.zeros((24, 32, 1), dtype=np.float32))
    nothing = np.zeros(len(edges.pairs), dtype=np.float32)
    found = merge_regions(labels, np.full(48, 16, dtype=np.float32), colour, edges, nothing, 7)

    size, mean = dict.fromkeys(range(48), 16.0), dict(enumerate(colour.astype(float)))
    touching = {frozenset(pair) for pair in edges.pairs.tolist()}
    owner = np.arange(48)
    while len(size) > 7:
        costs = {}
        for pair in touching:
            a, b = sorted(pair)
            costs[a, b] = size[a] * size[b] / (size[a] + size[b]) * ((mean[a] - mean[b]) ** 2).sum()
        a, b = min(costs, key=costs.__getitem__)
        mean[a] = (size[a] * mean[a] + size[b] * mean[b]) / (size[a] + size[b])
        size[a] += size.pop(b)
        owner[owner == b] = a
        touching = {frozenset(a if c == b else c for c in pair) for pair in touching} - {frozenset([a])}
    assert len(np.unique(found)) == 7
    assert adapted_rand_error(owner[labels], found)[0] < 0.1


def test_merge_tree_against_merging_by_hand() -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(30).reshape(5, 6).repeat(3, axis=0).repeat(3, axis=1)
    descriptors = rng.normal(0, 1, (30, 2)).astype(np.float32)
    edges = region_adjacency(labels, np.zeros((15, 18, 1), dtype=np.float32))
    cost = rng.random(len(edges.pairs)).astype(np.float32)
    tree = merge_tree(np.full(30, 9, dtype=np.float32), descriptors, edges, cost, 0.5)

    regions = {cell: {cell} for cell in range(30)}
    border = {frozenset(p): (float(n), float(n * c)) for p, n, c in zip(edges.pairs.tolist(), edges.length, cost)}  # noqa: B905
    level, left = 0.0, np.full((30, 30), 30.0)
    height = np.zeros((30, 30))
    while border:
        priced = {}
        for pair, (length, weight) in border.items():
            a, b = sorted(pair)
            na, nb = 9 * len(regions[a]), 9 * len(regions[b])
            means = [descriptors[list(regions[c])].astype(float).mean(axis=0) for c in (a, b)]
            priced[a, b] = (na * nb / (na + nb)) ** 0.5 * (((means[0] - means[1]) ** 2).sum() + weight / length)
        (a, b), price = min(priced.items(), key=lambda item: item[1])
        level = max(level, price)
        for i in regions[a]:
            for j in regions[b]:
                left[i, j] = left[j, i] = len(regions) - 1
                height[i, j] = height[j, i] = level
        regions[a] |= regions.pop(b)
        joined: dict[frozenset[int], tuple[float, float]] = {}
        for pair, (length, weight) in border.items():
            key = frozenset(a if c == b else c for c in pair)
            if len(key) == 2:
                known = joined.get(key, (0.0, 0.0))
                joined[key] = known[0] + length, known[1] + weight
        border = joined
    np.testing.assert_array_equal(tree.regions_left, left)
    np.testing.assert_allclose(tree.height, height, rtol=1e-4)
