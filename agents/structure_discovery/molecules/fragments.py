"""What molecules are put together from, as SMILES.

Rings and chains may be joined at any atom that has a hydrogen. Substituents are joined at their first atom, linkers
where they have stars.
"""

from dataclasses import dataclass

SYMBOLS: dict[str, frozenset[str]] = {
    "light": frozenset({"H", "C", "N", "O", "F"}),
    "heavy": frozenset({"H", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br"}),
}
"""The element sets of Alldritt et al., Sci. Adv. 6, eaay6913 (2020)."""


@dataclass(frozen=True)
class Catalogue:
    """Fragments of one element set.

    Attributes
    ----------
    aromatic
        Flat rings.
    saturated
        Rings with a shape in three dimensions.
    chains
        What has no ring.
    linkers
        Between two of the above; "" is a bond.
    substituents
        Of any shape.
    flat_substituents
        Those that keep a flat molecule flat.
    bridges
        What may take the place of two atoms at the rim of fused rings, so that a ring has five members.
    """

    aromatic: tuple[str, ...]
    saturated: tuple[str, ...]
    chains: tuple[str, ...]
    linkers: tuple[str, ...]
    substituents: tuple[str, ...]
    flat_substituents: tuple[str, ...]
    bridges: tuple[str, ...]

    def __add__(self, other: "Catalogue") -> "Catalogue":
        return Catalogue(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})


_LIGHT = Catalogue(
    aromatic=(
        # one ring
        *("c1ccccc1", "c1ccncc1", "c1cncnc1", "c1cnccn1", "c1ccnnc1", "c1ncncn1"),
        *("c1cc[nH]c1", "c1ccoc1", "c1c[nH]cn1", "c1cn[nH]c1", "c1cocn1", "c1cnoc1", "c1nc[nH]n1", "c1nnco1"),
        *("O=c1cc[nH]c(=O)[nH]1", "O=c1cccc[nH]1", "O=c1cccco1", "O=C1C=CC(=O)C=C1", "O=c1ccocc1"),
        # two rings
        *("c1ccc2ccccc2c1", "c1ccc2ncccc2c1", "c1ccc2cnccc2c1", "c1ccc2nccnc2c1", "c1ccc2ncncc2c1", "c1cnc2ncncc2n1"),
        *("c1ccc2[nH]ccc2c1", "c1ccc2occc2c1", "c1ccc2[nH]cnc2c1", "c1ccc2[nH]ncc2c1", "c1ccc2ocnc2c1"),
        *("c1ncc2[nH]cnc2n1", "Nc1ncnc2[nH]cnc12", "O=c1[nH]cnc2[nH]cnc12", "c1ccn2ccnc2c1", "c1ccc2cccc-2cc1"),
        *(
            "O=c1ccc2ccccc2o1",
            "O=c1ccoc2ccccc12",
            "O=C1NC(=O)c2ccccc12",
            "O=C1OC(=O)c2ccccc12",
            "O=C1C=CC(=O)c2ccccc12",
        ),
        # three rings and more
        *("c1ccc2c(c1)[nH]c1ccccc12", "c1ccc2c(c1)oc1ccccc12", "c1ccc2c(c1)Cc1ccccc12", "O=C1c2ccccc2-c2ccccc12"),
        *("c1ccc2nc3ccccc3cc2c1", "c1cnc2c(c1)ccc1cccnc12", "O=C1c2ccccc2C(=O)c2ccccc12", "O=c1c2ccccc2oc2ccccc12"),
        *("c1ccc2c(c1)-c1ccccc1-2", "c1ccc2nc3ccccc3nc2c1", "O=c1c2ccccc2[nH]c2ccccc12", "c1cc2cccc3c2c(c1)C=C3"),
    ),
    saturated=(
        # one ring
        *("C1CC1", "C1CCC1", "C1CCCC1", "C1CCCCC1", "C1CCCCCC1", "C1CCCCCCC1", "C1CO1", "C1CCOC1", "C1CCOCC1"),
        *("C1CCNC1", "C1CCNCC1", "C1CNCCN1", "C1COCCN1", "C1COCCO1", "C1COCO1", "C1CNC1", "C1COC1", "C1CCCNCC1"),
        *("O=C1CCCCC1", "O=C1CCCC1", "O=C1CCCN1", "O=C1CCCO1", "O=C1CCCCN1", "C1=CCCCC1", "C1=CCCC1", "O=C1C=CCCC1"),
        *("O=C1CCC(=O)N1", "O=C1CCC(=O)O1", "C1=CCOCC1", "O=C1CNC(=O)CN1", "C1CCC=CCCC1", "O=C1OCCO1"),
        # two rings
        *(
            "C1CCC2CCCCC2C1",
            "C1CCC2CCCC2C1",
            "C1CC2CCCC2C1",
            "C1CC2CCC1C2",
            "C1CC2CCC1CC2",
            "C1CC2CCC1O2",
            "C1CC2CCC1N2",
        ),
        *("C1CCC2(CC1)CCCC2", "C1CC2(C1)CCC2", "C1CCC2(CC1)OCCO2", "C1CN2CCC1CC2", "C1CN2CCN1CC2", "CN1C2CCC1CC2"),
        *(
            "C1CC2CC1C=C2",
            "C1CC2CC2C1",
            "CC1(C)C2CCC1(C)C(=O)C2",
            "CC1(C)C2CC=C(C)C1C2",
            "CC1=CCC2CC1C2(C)C",
            "C12CC1C2",
        ),
        *(
            "c1ccc2c(c1)CCCC2",
            "c1ccc2c(c1)CCC2",
            "c1ccc2c(c1)CCO2",
            "c1ccc2c(c1)CCN2",
            "c1ccc2c(c1)OCO2",
            "c1ccc2c(c1)OCCO2",
        ),
        *("C1Cc2ccccc2CN1", "c1ccc2c(c1)CCCO2", "O=C1CCc2ccccc12", "C1C2CC1C2", "C1CC2CCCN2C1"),
        # cages
        *("C1C2CC3CC1CC(C2)C3", "C12C3C4C1C5C2C3C45", "C1N2CN3CN1CN(C2)C3", "C1CC2CC3CCC1C23", "C1C2CC3CC1CC(C2)N3"),
        # sugars, steroids and other natural products
        *("OC[C@H]1OC(O)[C@H](O)[C@@H](O)[C@@H]1O", "OC[C@H]1OC(O)[C@H](O)[C@@H]1O", "OC1COC(O)C(O)C1O"),
        *("OC1C(O)C(O)C(O)C(O)C1O", "C1CCC2C(C1)CCC1CCCC12", "CC12CCCC1C1CCCCC1CC2", "C1CCC2C(C1)CCC1C2CCC2CCCC12"),
        *("CC12CCC3C(CCc4ccccc34)C1CCC2", "C1CCC2C(C1)CCC1CCCCC12", "c1ccc2c(c1)CCC1CCCCC21", "c1ccc2c(c1)C1CCC2CC1"),
    ),
    chains=(
        *(
            "CC",
            "CCC",
            "CCCC",
            "CCCCC",
            "CCCCCC",
            "CCCCCCCC",
            "CC(C)C",
            "CC(C)(C)C",
            "CC(C)CC",
            "C=CC=C",
            "CC=CC",
            "CC#CC",
        ),
        *("C#CC#C", "CCO", "OCCO", "OCC(O)CO", "COC", "CCOCC", "COCCOC", "CC=O", "CC(C)=O", "CC(=O)CC(C)=O", "CC(=O)O"),
        *("OC(=O)CC(=O)O", "OC(=O)C=CC(=O)O", "CC(=O)OC", "CC(N)=O", "NC(N)=O", "CNC(=O)NC", "NCC(=O)O", "CC(N)C(=O)O"),
        *(
            "NCC(=O)NCC(=O)O",
            "CC(=O)NCC(=O)NC",
            "NC(=N)N",
            "CN",
            "CCN(CC)CC",
            "NCCN",
            "NCCO",
            "CC#N",
            "N#CCC#N",
            "FC(F)(F)C",
        ),
        *("FC(F)C(F)F", "CC(O)C(=O)O", "OC(=O)CC(O)C(=O)O", "C=CC(=O)O", "C=C(C)C(=O)OC", "C=C=C", "CC(C)=CCCC(C)=C"),
        *("ON=CC", "CON", "NNC(=O)C", "OC(=O)CCCCC(=O)O", "C=CC=CC=C", "CC=NC", "CN=NC"),
    ),
    linkers=(
        *(
            "",
            "",
            "",
            "*C*",
            "*CC*",
            "*CCC*",
            "*C=C*",
            "*C#C*",
            "*C#CC#C*",
            "*O*",
            "*N*",
            "*C(=O)*",
            "*OC*",
            "*NC*",
            "*COC*",
            "*CNC*",
            "*C=N*",
            "*N=N*",
        ),
        *(
            "*C(=O)N*",
            "*C(=O)O*",
            "*C(=O)C=C*",
            "*NC(=O)N*",
            "*C(=O)NC*",
            "*C(C)C*",
            "*C(F)(F)*",
            "*CC(=O)N*",
            "*OCCO*",
            "*C(=O)C(=O)*",
            "*C=NN=C*",
        ),
    ),
    substituents=(
        *(
            "C",
            "C",
            "CC",
            "CCC",
            "C(C)C",
            "C(C)(C)C",
            "CCCC",
            "C=C",
            "C#C",
            "CC=C",
            "C1CC1",
            "F",
            "F",
            "C(F)(F)F",
            "C(F)F",
        ),
        *(
            "CF",
            "OC(F)(F)F",
            "O",
            "O",
            "OC",
            "OCC",
            "CO",
            "CCO",
            "COC",
            "OC(C)=O",
            "N",
            "N",
            "NC",
            "N(C)C",
            "CN",
            "NC(C)=O",
        ),
        *("C#N", "CC#N", "C=O", "C(C)=O", "C(=O)O", "C(=O)OC", "C(N)=O", "C(=O)NC", "CC(=O)O", "[N+](=O)[O-]", "C(O)C"),
        *("C(=O)F", "NC=O", "C(=O)C(F)(F)F", "C=NO", "CC(N)C(=O)O", "C(C)O", "OCC#C", "C#CC"),
    ),
    flat_substituents=(
        *(
            "F",
            "F",
            "F",
            "O",
            "O",
            "O",
            "N",
            "N",
            "C#N",
            "C#N",
            "C=O",
            "C(=O)O",
            "C(N)=O",
            "[N+](=O)[O-]",
            "C#C",
            "C#C",
        ),
        *("C(=O)F", "C#CC#N", "NC=O", "C#Cc1ccccc1", "C=C", "c1ccccc1"),
    ),
    bridges=("O", "O", "N", "N", "C=O", "C"),
)

_HEAVY = Catalogue(
    aromatic=(
        *("c1ccsc1", "c1cscn1", "c1cnsc1", "c1nncs1", "c1cnns1", "c1ccc2sccc2c1", "c1ccc2scnc2c1", "c1ccc2nsnc2c1"),
        *("c1cc2sccc2s1", "c1cc2ccsc2s1", "c1ccc2c(c1)sc1ccccc12", "c1ccc2c(c1)Nc1ccccc1S2", "C1=CSC(=C2SC=CS2)S1"),
        *("c1ccc2c(c1)Sc1ccccc1S2", "S=c1ccss1", "c1cc2c(s1)-c1sccc1C2", "c1csc(-c2cccs2)c1", "O=C1NC(=O)SC1"),
    ),
    saturated=(
        *("C1CCSC1", "C1CCSCC1", "C1CSCCS1", "C1CSCS1", "C1CSC1", "C1CSCN1", "C1COCCS1", "O=S1(=O)CCCC1", "C1CS1"),
        *(
            "C1CC[SiH2]CC1",
            "C1CC[SiH2]C1",
            "C1CCPCC1",
            "C1CCPC1",
            "O=P1(O)OCCO1",
            "C1CSSC1",
            "C1CC2CCC1S2",
            "N12CCP(CC1)CC2",
        ),
    ),
    chains=(
        *("CSC", "CSSC", "CS(C)=O", "CS(C)(=O)=O", "CS(N)(=O)=O", "C[SiH2]C", "C[Si](C)(C)C", "CP(C)C", "CP(C)(C)=O"),
        *(
            "COP(=O)(OC)OC",
            "NC(N)=S",
            "CC(N)=S",
            "ClCCCl",
            "BrCCBr",
            "FC(Cl)C",
            "NC(CS)C(=O)O",
            "CSCCC(N)C(=O)O",
            "CO[Si](C)(C)OC",
        ),
        *("ClC=CCl", "BrC(C)C", "C[Si](C)(C)O[Si](C)(C)C", "CCS"),
    ),
    linkers=(
        *(
            "*S*",
            "*S*",
            "*CS*",
            "*SS*",
            "*S(=O)(=O)*",
            "*S(=O)(=O)N*",
            "*[Si](C)(C)*",
            "*P(C)*",
            "*P(=O)(C)*",
            "*C(=S)N*",
            "*OP(=O)(O)O*",
            "*SCS*",
            "*[SiH2]*",
        ),
    ),
    substituents=(
        *(
            "Cl",
            "Cl",
            "Cl",
            "Cl",
            "Br",
            "Br",
            "Br",
            "Br",
            "CCl",
            "CBr",
            "C(Cl)(Cl)Cl",
            "C(F)(F)Cl",
            "S",
            "SC",
            "SCC",
            "S(C)(=O)=O",
        ),
        *(
            "S(C)=O",
            "S(N)(=O)=O",
            "S(=O)(=O)O",
            "CS",
            "SC#N",
            "N=C=S",
            "[Si](C)(C)C",
            "[SiH3]",
            "C[SiH2]C",
            "P(C)C",
            "P(C)(C)=O",
        ),
        *("P(=O)(O)O", "OP(=O)(O)O", "P(=O)(OC)OC", "C(=O)Cl", "S(F)(=O)=O", "C=CBr", "C=CCl", "C#CBr"),
    ),
    flat_substituents=(
        "Cl",
        "Cl",
        "Cl",
        "Br",
        "Br",
        "Br",
        "S",
        "C#CBr",
        "C=CCl",
        "C(=O)Cl",
        "SC#N",
        "c1cccs1",
        "C(N)=S",
    ),
    bridges=("S", "S", "S", "S(=O)=O"),
)

CATALOGUES: dict[str, Catalogue] = {"light": _LIGHT, "heavy": _LIGHT + _HEAVY}
