import numpy as np
import pytest

from twinscope.kernels import ELEMENTS, Atoms, Tip, atomic_number, mixed_parameters, pair_terms, placeholder_elements


def test_the_table_has_118_different_elements():
    assert len(ELEMENTS) == 118
    assert len({element.symbol for element in ELEMENTS}) == 118
    # The sums of the reference code's table: a slip in any row would change them.
    np.testing.assert_allclose(sum(element.radius for element in ELEMENTS), 260.4512, rtol=1e-12)
    np.testing.assert_allclose(sum(z * element.radius for z, element in enumerate(ELEMENTS, 1)), 15347.4986, rtol=1e-12)
    np.testing.assert_allclose(sum(element.depth for element in ELEMENTS), 1.176251, rtol=1e-12)
    np.testing.assert_allclose(sum(z * element.depth for z, element in enumerate(ELEMENTS, 1)), 71.535694, rtol=1e-12)
    assert all(1 < element.radius < 4 and 0 < element.depth < 0.03 for element in ELEMENTS)


# ppafm 0.4.1, defaults/atomtypes.ini; the last two columns are mixed with an oxygen probe.


def one_atom(number):
    return Atoms(np.array([number]), np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("symbol", "number", "radius", "depth", "mixed_radius", "mixed_depth"),
    [
        ("H", 1, 1.487, 0.000681, 3.1482, 0.002490),
        ("B", 5, 2.08, 0.003729, 3.7412, 0.005827),
        ("C", 6, 1.908, 0.003729, 3.5692, 0.005827),
        ("N", 7, 1.78, 0.007372, 3.4412, 0.008193),
        ("O", 8, 1.6612, 0.009106, 3.3224, 0.009106),
        ("F", 9, 1.75, 0.002645, 3.4112, 0.004908),
        ("Si", 14, 1.9, 0.02549, 3.5612, 0.015235),
        ("S", 16, 2.0, 0.010841, 3.6612, 0.009936),
        ("Cl", 17, 1.948, 0.011491, 3.6092, 0.010229),
        ("Fe", 26, 2.27, 0.01, 3.9312, 0.009543),
        ("Cu", 29, 2.23, 0.01, 3.8912, 0.009543),
        ("Br", 35, 2.22, 0.013876, 3.8812, 0.011241),
        ("Ag", 47, 2.37, 0.01, 4.0312, 0.009543),
        ("I", 53, 2.35, 0.017345, 4.0112, 0.012568),
        ("Xe", 54, 2.1815, 0.024344, 3.8427, 0.014889),
        ("Au", 79, 2.41, 0.01, 4.0712, 0.009543),
        ("Pb", 82, 2.53, 0.01, 4.1912, 0.009543),
    ],
)
def test_elements_have_the_parameters_of_the_reference_code(symbol, number, radius, depth, mixed_radius, mixed_depth):
    assert atomic_number(symbol) == atomic_number(number) == number
    element = ELEMENTS[number - 1]
    assert (element.symbol, element.radius, element.depth) == (symbol, radius, depth)

    radii, depths = mixed_parameters(one_atom(number), Tip("O"))
    np.testing.assert_allclose(radii, [mixed_radius], atol=6e-5)
    np.testing.assert_allclose(depths, [mixed_depth], atol=6e-7)


def test_the_pair_energy_has_its_minimum_at_the_sum_of_radii():
    r = 1.908 + 2.1815 + np.array([-0.01, 0, 0.01])
    points = np.stack([0 * r, 0 * r, r]).astype(np.float32)
    energy = np.asarray(pair_terms(one_atom(6), Tip("Xe")).energy(points))
    assert energy.argmin() == 1
    np.testing.assert_allclose(energy[1], -np.sqrt(0.003729 * 0.024344), rtol=1e-6)


def test_own_parameters_go_before_those_of_the_elements():
    atoms = Atoms(np.array([6, 1]), np.zeros((2, 3)), lennard_jones=np.array([[2.0, 0.01], [1.5, 0.04]]))
    radii, depths = mixed_parameters(atoms, Tip("Xe", lennard_jones=(1.0, 0.09)))
    np.testing.assert_allclose(radii, [3.0, 2.5])
    np.testing.assert_allclose(depths, [0.03, 0.06])


def test_symbols_are_taken_in_any_case_and_with_spaces():
    assert [atomic_number(symbol) for symbol in ("cl", "CL", " Cl ", "xE")] == [17, 17, 17, 54]


def test_numpy_integers_are_elements():
    assert atomic_number(np.int64(79)) == 79


@pytest.mark.parametrize("element", ["Zz", "", "C1", 0, -1, 119])
def test_an_unknown_element_is_named_with_what_is_allowed(element):
    with pytest.raises(ValueError, match=r"symbol or an atomic number from 1 to 118") as caught:
        atomic_number(element)
    assert repr(element) in str(caught.value)


def test_an_unknown_element_among_many_is_named():
    with pytest.raises(ValueError, match="unknown element 119"):
        mixed_parameters(Atoms(np.array([6, 119, 1]), np.zeros((3, 3))), Tip())
    with pytest.raises(ValueError, match="unknown element 0"):
        mixed_parameters(one_atom(6), Tip(0))


def test_elements_without_real_parameters_are_flagged():
    assert placeholder_elements(np.array([6, 1, 8, 79, 26])) == []
    assert placeholder_elements(np.array([64, 6, 36, 64])) == ["Gd", "Kr"]
    flagged = {element.symbol for element in ELEMENTS if element.placeholder}
    # What the reference code marks as meaningless: Kr, Ce to Lu, Po to Ac, Pa, and everything beyond U.
    numbers = [36, *range(58, 72), *range(84, 90), 91, *range(93, 119)]
    assert flagged == {ELEMENTS[number - 1].symbol for number in numbers}
    assert all((element.radius, element.depth) == (2, 0.01) for element in ELEMENTS if element.placeholder)
