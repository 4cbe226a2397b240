from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from everymask.backbone.nano.regions import (
    RegionConfig,
    colour_gradient,
    find_cells,
    lab_image,
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
