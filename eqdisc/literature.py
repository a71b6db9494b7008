"""Literature: the laws of the catalogue, one paragraph each: formulas, numbers with their units, starts, span and samples, source.

A source gives the form of the law. Its numbers are those of the source or of a usual experiment of that kind. A law that its source
writes without units has none here either.
"""

from __future__ import annotations

from .systems import System

SYSTEMS = (
    # ---------------------------------------------------------------- epidemics
    System(
        "fsir", "Fractional SIR epidemic",
        {"S": "-b*sqrt(I*S) + e*R", "I": "b*sqrt(I*S) - a*I", "R": "a*I - e*R"},
        {"a": 0.05, "b": 0.06, "e": 0.01}, {"a": "1/day", "b": "1/day", "e": "1/day"},
        ((100.0, 0.01, 0.0), (80.0, 1.0, 5.0)), 200.0, "day", 40,
        "Heim, Pevny & Smidl, Neural Power Units, NeurIPS 2020, eqs. 16-17; Taghvaei et al. 2020",
    ),
    System(
        "sir", "SIR epidemic", {"S": "-b*I*S", "I": "b*I*S - g*I", "R": "g*I"},
        {"b": 0.004, "g": 0.1}, {"b": "1/(person*day)", "g": "1/day"},
        ((99.0, 1.0, 0.0), (70.0, 10.0, 20.0)), 60.0, "day", 60,
        "Kermack & McKendrick, Proc. R. Soc. A 115 (1927) 700",
    ),
    System(
        "seir", "SEIR epidemic with latency", {"S": "-b*I*S", "E": "b*I*S - s*E", "I": "s*E - g*I", "R": "g*I"},
        {"b": 0.9, "s": 0.25, "g": 0.2}, {"b": "1/day", "s": "1/day", "g": "1/day"},
        ((0.99, 0.0, 0.01, 0.0), (0.9, 0.05, 0.05, 0.0)), 80.0, "day", 80,
        "Anderson & May, Infectious Diseases of Humans, Oxford 1991",
    ),
    System(
        "sir_demography", "SIR epidemic with births and deaths, shares of the population",
        {"S": "m - b*S*I - m*S", "I": "b*S*I - g*I - m*I"},
        {"m": 0.02, "b": 130.0, "g": 26.0}, {"m": "1/year", "b": "1/year", "g": "1/year"},
        ((0.25, 0.001), (0.15, 0.002)), 20.0, "year", 240,
        "Anderson & May, Infectious Diseases of Humans, Oxford 1991",
    ),
    System(
        "sirs_power", "SIRS epidemic with nonlinear incidence",
        {"S": "-b*I**0.8*S + w*R", "I": "b*I**0.8*S - g*I", "R": "g*I - w*R"},
        {"b": 0.7, "g": 0.3, "w": 0.1}, {"b": "1/day", "g": "1/day", "w": "1/day"},
        ((0.9, 0.1, 0.0), (0.6, 0.1, 0.3)), 60.0, "day", 80,
        "Liu, Levin & Iwasa, J. Math. Biol. 23 (1986) 187",
    ),
    System(
        "generalized_growth", "Sub-exponential early epidemic", {"C": "r*C**p"},
        {"r": 0.6, "p": 0.7}, {"r": "case^0.3/day", "p": ""},
        ((5.0,), (20.0,)), 30.0, "day", 31, "Viboud, Simonsen & Chowell, Epidemics 15 (2016) 27",
    ),
    System(
        "generalized_richards", "Cases of an epidemic up to its end", {"C": "r*C**p*(1 - (C/K)**a)"},
        {"r": 0.6, "p": 0.8, "K": 5000.0, "a": 0.6}, {"r": "case^0.2/day", "p": "", "K": "case", "a": ""},
        ((10.0,), (150.0,)), 60.0, "day", 61, "Chowell, Infect. Dis. Model. 2 (2017) 379",
    ),
    # ---------------------------------------------------------------- ecology
    System(
        "lotka_volterra", "Predator and prey", {"x": "a*x - b*x*y", "y": "-c*y + d*x*y"},
        {"a": 1.0, "b": 0.1, "c": 1.5, "d": 0.075},
        {"a": "1/year", "b": "1/(predator*year)", "c": "1/year", "d": "1/(prey*year)"},
        ((10.0, 5.0), (30.0, 4.0)), 15.0, "year", 150, "Lotka 1925; Volterra, Nature 118 (1926) 558",
    ),
    System(
        "power_predation", "Predator and prey with fractional powers", {"x": "a*x - b*x**0.7*y**0.8", "y": "-c*y + d*x**0.7*y**0.8"},
        {"a": 0.4, "b": 0.3, "c": 0.8, "d": 0.4},
        {"a": "1/year", "b": "prey^0.3/(predator^0.8*year)", "c": "1/year", "d": "predator^0.2/(prey^0.7*year)"},
        ((5.0, 2.0), (3.0, 4.0)), 30.0, "year", 150, "Savageau, Biochemical Systems Analysis, 1976 (GMA form)",
    ),
    System(
        "hassell_varley", "Predators that hinder each other", {"N": "r*N*(1 - N/K) - q*N*P**(1 - m)", "P": "e*q*N*P**(1 - m) - d*P"},
        {"r": 0.6, "K": 40.0, "q": 0.12, "m": 0.55, "e": 0.3, "d": 0.25},
        {"r": "1/day", "K": "1/m^2", "q": "m^0.9/day", "m": "", "e": "", "d": "1/day"},
        ((5.0, 10.0), (35.0, 1.0)), 20.0, "day", 80,
        "Hassell & Varley, Nature 223 (1969) 1133, the power of P; Arditi & Akcakaya, Oecologia 83 (1990) 358",
    ),
    System(
        "holling", "Predator and prey with saturation", {"x": "x*(1 - x/k) - a*x*y/(1 + h*x)", "y": "-m*y + e*a*x*y/(1 + h*x)"},
        {"k": 4.0, "a": 1.2, "h": 0.8, "e": 0.7, "m": 0.35}, {"k": "prey", "a": "1/predator", "h": "1/prey", "e": "predator/prey", "m": ""},
        ((1.0, 0.5), (3.0, 1.0)), 40.0, "", 120, "Rosenzweig & MacArthur, Am. Nat. 97 (1963) 209",
    ),
    System(
        "beddington_deangelis", "Predator and prey with saturation and interference",
        {"x": "r*x*(1 - x/k) - a*x*y/(1 + h*x + w*y)", "y": "-m*y + e*a*x*y/(1 + h*x + w*y)"},
        {"r": 0.9, "k": 12.0, "a": 0.9, "h": 0.5, "w": 0.1, "e": 0.5, "m": 0.4},
        {"r": "1/year", "k": "prey", "a": "1/(predator*year)", "h": "1/prey", "w": "1/predator", "e": "predator/prey", "m": "1/year"},
        ((2.0, 1.0), (9.0, 4.0)), 40.0, "year", 120,
        "Beddington, J. Anim. Ecol. 44 (1975) 331; DeAngelis, Goldstein & O'Neill, Ecology 56 (1975) 881",
    ),
    System(
        "plankton", "Plankton bloom", {"P": "r*P*(1 - P/K) - R*Z*P**2/(a**2 + P**2)", "Z": "g*R*Z*P**2/(a**2 + P**2) - m*Z"},
        {"r": 0.3, "K": 108.0, "R": 0.7, "a": 5.7, "g": 0.05, "m": 0.012},
        {"r": "1/day", "K": "ug/L", "R": "1/day", "a": "ug/L", "g": "", "m": "1/day"},
        ((5.0, 3.0), (20.0, 8.0)), 120.0, "day", 120, "Truscott & Brindley, Bull. Math. Biol. 56 (1994) 981",
    ),
    System(
        "hastings_powell", "Food chain of three species, chaotic",
        {"x": "x*(1 - x) - a*x*y/(1 + b*x)", "y": "a*x*y/(1 + b*x) - c*y*z/(1 + d*y) - m*y", "z": "c*y*z/(1 + d*y) - n*z"},
        {"a": 5.0, "b": 3.0, "c": 0.1, "d": 2.0, "m": 0.4, "n": 0.01}, {"a": "", "b": "", "c": "", "d": "", "m": "", "n": ""},
        ((0.8, 0.2, 9.0), (0.5, 0.3, 7.5)), 300.0, "", 400, "Hastings & Powell, Ecology 72 (1991) 896",
    ),
    System(
        "competition", "Two species in competition", {"x": "x*(3 - x - 2*y)", "y": "y*(2 - x - y)"}, {}, {},
        ((0.5, 1.8), (2.0, 0.3)), 10.0, "", 80, "Strogatz, Nonlinear Dynamics and Chaos, 1994, section 6.4",
    ),
    System(
        "gilpin_ayala", "Two species of fruit flies in competition", {"N": "r*N*(1 - (N/K)**0.35 - a*M/K)", "M": "s*M*(1 - (M/L)**0.12 - b*N/L)"},
        {"r": 1.5, "K": 1300.0, "a": 0.7, "s": 4.5, "L": 800.0, "b": 0.09},
        {"r": "1/week", "K": "fly", "a": "", "s": "1/week", "L": "fly", "b": ""},
        ((20.0, 20.0), (1000.0, 10.0)), 12.0, "week", 60, "Gilpin & Ayala, Proc. Natl. Acad. Sci. USA 70 (1973) 3590",
    ),
    System(
        "may_leonard", "Three species that beat each other in turn",
        {"x": "x*(1 - x - a*y - b*z)", "y": "y*(1 - b*x - y - a*z)", "z": "z*(1 - a*x - b*y - z)"},
        {"a": 0.8, "b": 1.3}, {"a": "", "b": ""}, ((0.5, 0.3, 0.2), (0.1, 0.6, 0.5)), 60.0, "", 150,
        "May & Leonard, SIAM J. Appl. Math. 29 (1975) 243",
    ),
    # ---------------------------------------------------------------- growth
    System(
        "logistic", "Logistic growth", {"N": "r*N - r/k*N**2"}, {"r": 0.5, "k": 10.0}, {"r": "1/year", "k": "million"},
        ((0.5,), (15.0,)), 20.0, "year", 50, "Verhulst 1838",
    ),
    System(
        "allee", "Growth with an Allee effect", {"N": "r*N*(N/a - 1)*(1 - N/k)"},
        {"r": 0.4, "a": 1.0, "k": 6.0}, {"r": "1/year", "a": "1/ha", "k": "1/ha"},
        ((1.3,), (8.0,)), 12.0, "year", 60, "Courchamp, Berec & Gascoigne, Allee Effects, Oxford 2008",
    ),
    System(
        "budworm", "Insects on trees, eaten by birds", {"N": "r*N*(1 - N/q) - N**2/(1 + N**2)"},
        {"r": 0.5, "q": 10.0}, {"r": "", "q": ""}, ((2.4,), (1.8,)), 20.0, "", 60,
        "Ludwig, Jones & Holling, J. Anim. Ecol. 47 (1978) 315; Strogatz, Nonlinear Dynamics and Chaos, 1994, section 3.7",
    ),
    System(
        "doomsday", "Hyperbolic growth of mankind", {"N": "p*K**(-1/p)*N**(1 + 1/p)"},
        {"K": 179.0, "p": 0.99}, {"K": "billion*year^0.99", "p": ""}, ((0.5,), (1.0,)), 150.0, "year", 40,
        "von Foerster, Mora & Amiot, Science 132 (1960) 1291",
    ),
    System(
        "west", "Ontogenetic growth", {"m": "a*m**0.75 - b*m"}, {"a": 0.3, "b": 0.1}, {"a": "g^0.25/day", "b": "1/day"},
        ((1.0,), (120.0,)), 150.0, "day", 60, "West, Brown & Enquist, Nature 413 (2001) 628",
    ),
    System(
        "bertalanffy", "Growth of a body by surface and loss by volume", {"W": "a*W**(2/3) - b*W"},
        {"a": 1.2, "b": 0.3}, {"a": "kg^(1/3)/year", "b": "1/year"},
        ((0.5,), (100.0,)), 40.0, "year", 60, "von Bertalanffy, Q. Rev. Biol. 32 (1957) 217",
    ),
    System(
        "tumor_power", "Tumour growth by a power law", {"V": "a*V**g"}, {"a": 0.92, "g": 0.79}, {"a": "mm^0.63/day", "g": ""},
        ((2.0,), (30.0,)), 20.0, "day", 25, "Benzekry et al., PLoS Comput. Biol. 10 (2014) e1003800",
    ),
    System(
        "gompertz", "Tumour growth that slows down", {"V": "-a*V*log(V/K)"}, {"a": 0.08, "K": 2000.0}, {"a": "1/day", "K": "mm^3"},
        ((5.0,), (100.0,)), 60.0, "day", 40, "Laird, Br. J. Cancer 18 (1964) 490; Gompertz, Phil. Trans. 115 (1825) 513", transcendental=True,
    ),
    System(
        "monod", "Chemostat", {"X": "m*S*X/(K + S) - D*X", "S": "D*(f - S) - m*S*X/(y*(K + S))"},
        {"m": 0.5, "K": 1.0, "D": 0.2, "f": 8.0, "y": 0.6}, {"m": "1/h", "K": "g/L", "D": "1/h", "f": "g/L", "y": ""},
        ((0.3, 6.0), (2.0, 1.0)), 60.0, "h", 90, "Monod, Annu. Rev. Microbiol. 3 (1949) 371",
    ),
    System(
        "haldane", "Chemostat with a substrate that inhibits growth",
        {"X": "m*S*X/(K + S + S**2/H) - D*X", "S": "D*(f - S) - m*S*X/(y*(K + S + S**2/H))"},
        {"m": 0.6, "K": 0.5, "H": 4.0, "D": 0.15, "f": 6.0, "y": 0.5}, {"m": "1/h", "K": "g/L", "H": "g/L", "D": "1/h", "f": "g/L", "y": ""},
        ((0.2, 5.0), (1.0, 0.3)), 30.0, "h", 60, "Andrews, Biotechnol. Bioeng. 10 (1968) 707",
    ),
    # ---------------------------------------------------------------- heat, flow and solids
    System(
        "torricelli", "Draining tank", {"h": "-k*sqrt(h)"}, {"k": 0.02}, {"k": "m^0.5/s"},
        ((1.0,), (0.6,)), 75.0, "s", 50, "Torricelli 1643; Bernoulli 1738",
    ),
    System(
        "shear_thinning", "Rotor slowing down in a polymer solution, whose torque follows a power law", {"w": "-k*w**0.544"},
        {"k": 0.6}, {"k": "rad^0.456/s^1.456"}, ((20.0,), (5.0,)), 7.0, "s", 50,
        "Bird, Stewart & Lightfoot, Transport Phenomena, 2nd ed. 2002, table 8.3-1 (1 % poly(ethylene oxide) in water, n = 0.544)",
    ),
    System(
        "two_tanks", "Two tanks in series", {"h1": "q - a*sqrt(h1)", "h2": "a*sqrt(h1) - b*sqrt(h2)"},
        {"q": 0.5, "a": 0.4, "b": 0.3}, {"q": "cm/s", "a": "cm^0.5/s", "b": "cm^0.5/s"},
        ((4.0, 0.5), (0.3, 5.0)), 40.0, "s", 60, "Schoukens & Noel, IFAC-PapersOnLine 50 (2017) 446",
    ),
    System(
        "overland_flow", "Rain that runs off a plane", {"h": "p - a*h**(5/3)"},
        {"p": 0.5, "a": 0.02}, {"p": "mm/min", "a": "1/(mm^(2/3)*min)"},
        ((0.2,), (20.0,)), 25.0, "min", 50, "Henderson & Wooding, J. Geophys. Res. 69 (1964) 1531, with Manning's power of depth",
    ),
    System(
        "film_drainage", "Liquid film that drains down a plate", {"h": "-g*h**3/(2*n*z)"},
        {"g": 9810.0, "n": 1000.0, "z": 100.0}, {"g": "mm/s^2", "n": "mm^2/s", "z": "mm"},
        ((2.0,), (1.0,)), 40.0, "s", 50, "Jeffreys, Proc. Camb. Phil. Soc. 26 (1930) 204",
    ),
    System(
        "droplet", "Burning droplet, d-squared law", {"D": "-k/(2*D)"}, {"k": 0.8}, {"k": "mm^2/s"},
        ((1.0,), (1.6,)), 1.1, "s", 45, "Godsave, Symp. (Int.) Combust. 4 (1953) 818; Spalding, ibid. 847",
    ),
    System(
        "stefan_boltzmann", "Radiative cooling", {"T": "p - s*T**4"}, {"p": 1.62, "s": 0.02}, {"p": "hK/h", "s": "1/(hK^3*h)"},
        ((10.0,), (1.0,)), 1.0, "h", 60, "Boltzmann, Ann. Phys. 258 (1884) 291",
    ),
    System(
        "newton_cooling", "Cooling towards the room", {"T": "k*(a - T)"}, {"k": 0.05, "a": 20.0}, {"k": "1/min", "a": "degC"},
        ((90.0,), (5.0,)), 80.0, "min", 50, "Newton, Phil. Trans. 22 (1701) 824",
    ),
    System(
        "dulong_petit", "Cooling in still air, excess over the room", {"theta": "-k*theta**1.233"}, {"k": 0.01}, {"k": "1/(degC^0.233*min)"},
        ((100.0,), (40.0,)), 90.0, "min", 46, "Dulong & Petit, Ann. Chim. Phys. 7 (1817) 225 and 337",
    ),
    System(
        "blast_wave", "Strong explosion", {"R": "c*R**(-1.5)"}, {"c": 2.5}, {"c": "m^2.5/ms"},
        ((1.0,), (0.5,)), 40.0, "ms", 40, "Taylor, Proc. R. Soc. A 201 (1950) 159; Sedov 1946",
    ),
    System(
        "aftershocks", "Aftershocks a day", {"n": "-k*n**(1 + 1/p)"},
        {"k": 0.0142, "p": 1.1}, {"k": "1/(event^(10/11)*day^(1/11))", "p": ""},
        ((250.0,), (60.0,)), 5.0, "day", 60, "Omori 1894; Utsu, Geophys. Mag. 30 (1961) 521, its rate as a differential equation",
    ),
    System(
        "chirp", "Frequency of the gravitational wave of two stars", {"f": "k*f**(11/3)"}, {"k": 7.7e-7}, {"k": "s^(5/3)"},
        ((24.0,), (21.0,)), 90.0, "s", 100, "Peters, Phys. Rev. 136 (1964) B1224",
    ),
    System(
        "lorenz", "Convection, chaotic", {"x": "s*(y - x)", "y": "r*x - y - x*z", "z": "x*y - b*z"},
        {"s": 10.0, "r": 28.0, "b": 8 / 3}, {"s": "", "r": "", "b": ""},
        ((-8.0, 7.0, 27.0), (5.0, -5.0, 20.0)), 10.0, "", 1000, "Lorenz, J. Atmos. Sci. 20 (1963) 130", signed=("x", "y"),
    ),
    # ---------------------------------------------------------------- motion and oscillation
    System(
        "quadratic_drag", "Falling with quadratic drag", {"v": "g - k*v**2"}, {"g": 9.81, "k": 0.2}, {"g": "m/s^2", "k": "1/m"},
        ((0.1,), (12.0,)), 3.0, "s", 50, "Rayleigh, Phil. Mag. 2 (1876) 430",
    ),
    System(
        "drag_spring", "Mass on a spring with quadratic drag", {"x": "v", "v": "-w*x - c*v*Abs(v)"},
        {"w": 4.0, "c": 0.3}, {"w": "1/s^2", "c": "1/m"},
        ((1.5, 0.0), (-0.5, 2.0)), 12.0, "s", 150, "Nayfeh & Mook, Nonlinear Oscillations, Wiley 1979, ch. 3", signed=("x", "v"),
    ),
    System(
        "pendulum", "Pendulum", {"x": "v", "v": "-g*sin(x)"}, {"g": 4.0}, {"g": "1/s^2"},
        ((2.0, 0.0), (1.0, 2.0)), 10.0, "s", 150, "Huygens 1673", signed=("x", "v"), transcendental=True,
    ),
    System(
        "duffing", "Hardening spring with damping", {"x": "v", "v": "-d*v - a*x - b*x**3"},
        {"d": 0.2, "a": 1.0, "b": 0.8}, {"d": "1/s", "a": "1/s^2", "b": "1/(m^2*s^2)"},
        ((1.5, 0.0), (-1.0, 1.0)), 20.0, "s", 150, "Duffing 1918", signed=("x", "v"),
    ),
    System(
        "van_der_pol", "Relaxation oscillator", {"x": "y", "y": "m*(1 - x**2)*y - x"}, {"m": 1.5}, {"m": ""},
        ((2.0, 0.0), (0.5, -1.0)), 20.0, "", 200, "van der Pol, Phil. Mag. 2 (1926) 978", signed=("x", "y"),
    ),
    System(
        "landau_stuart", "Oscillation that sets in", {"x": "m*x - w*y - b*x*(x**2 + y**2)", "y": "w*x + m*y - b*y*(x**2 + y**2)"},
        {"m": 0.4, "w": 2.0, "b": 0.5}, {"m": "1/s", "w": "1/s", "b": "s/m^2"},
        ((0.2, 0.0), (-1.5, 1.0)), 12.0, "s", 150, "Landau, C. R. Acad. Sci. URSS 44 (1944) 311; Stuart, J. Fluid Mech. 9 (1960) 353",
        signed=("x", "y"),
    ),
    System(
        "kuramoto", "Phases of two coupled oscillators", {"p": "a + k/2*sin(q - p)", "q": "b + k/2*sin(p - q)"},
        {"a": 1.0, "b": 2.3, "k": 1.0}, {"a": "1/s", "b": "1/s", "k": "1/s"}, ((0.1, 2.0), (3.0, 0.5)), 15.0, "s", 150,
        "Kuramoto, in Araki (ed.), Mathematical Problems in Theoretical Physics, Springer 1975, p. 420", transcendental=True,
    ),
    System(
        "fitzhugh_nagumo", "Nerve impulse", {"v": "v - v**3/3 - w + i", "w": "e*(v + a - b*w)"},
        {"i": 0.5, "e": 0.08, "a": 0.7, "b": 0.8}, {"i": "", "e": "", "a": "", "b": ""},
        ((-1.0, 1.0), (1.5, -0.3)), 100.0, "", 200, "FitzHugh, Biophys. J. 1 (1961) 445", signed=("v", "w"),
    ),
    System(
        "roessler", "Folded band, chaotic", {"x": "-y - z", "y": "x + a*y", "z": "b + z*(x - c)"},
        {"a": 0.2, "b": 0.2, "c": 5.7}, {"a": "", "b": "", "c": ""},
        ((1.0, 1.0, 0.5), (-4.0, 2.0, 0.1)), 50.0, "", 1000, "Roessler, Phys. Lett. A 57 (1976) 397", signed=("x", "y"),
    ),
    System(
        "sprott_b", "Two wings from five terms, chaotic", {"x": "y*z", "y": "x - y", "z": "1 - x*y"}, {}, {},
        ((0.5, 0.5, 0.5), (-1.0, 0.3, 1.5)), 40.0, "", 600, "Sprott, Phys. Rev. E 50 (1994) R647, case B", signed=("x", "y", "z"),
    ),
    # ---------------------------------------------------------------- reactions
    System(
        "half_order", "Reaction of half order", {"c": "-k*sqrt(c)"}, {"k": 0.1}, {"k": "mol^0.5/(L^0.5*min)"},
        ((2.0,), (1.0,)), 18.0, "min", 40, "Atkins & de Paula, Physical Chemistry, ch. 20",
    ),
    System(
        "second_order", "Reaction of second order", {"A": "-k*A*B", "B": "-k*A*B", "C": "k*A*B"}, {"k": 0.5}, {"k": "L/(mol*min)"},
        ((1.0, 1.5, 0.0), (2.0, 1.0, 0.2)), 10.0, "min", 40, "Atkins & de Paula, Physical Chemistry, ch. 20",
    ),
    System(
        "consecutive", "Consecutive reactions", {"A": "-k*A", "B": "k*A - l*B", "C": "l*B"}, {"k": 0.6, "l": 0.2}, {"k": "1/min", "l": "1/min"},
        ((1.0, 0.0, 0.0), (0.5, 0.5, 0.0)), 20.0, "min", 50, "Levenspiel, Chemical Reaction Engineering, ch. 3",
    ),
    System(
        "hydrogen_bromide", "Hydrogen and bromine, a chain reaction",
        {"H2": "-k*H2*Br2**1.5/(Br2 + m*HBr)", "Br2": "-k*H2*Br2**1.5/(Br2 + m*HBr)", "HBr": "2*k*H2*Br2**1.5/(Br2 + m*HBr)"},
        {"k": 0.4, "m": 0.1}, {"k": "L^0.5/(mol^0.5*min)", "m": ""},
        ((0.5, 0.5, 0.0), (0.8, 0.4, 0.3)), 12.0, "min", 50, "Bodenstein & Lind, Z. Phys. Chem. 57 (1907) 168",
    ),
    System(
        "propane", "Burning propane in one step, at one temperature",
        {"C3H8": "-k*C3H8**0.1*O2**1.65", "O2": "-5*k*C3H8**0.1*O2**1.65"}, {"k": 0.05}, {"k": "m^2.25/(mol^0.75*ms)"},
        ((2.0, 8.0), (3.0, 5.0)), 5.0, "ms", 50, "Westbrook & Dryer, Combust. Sci. Technol. 27 (1981) 31",
    ),
    System(
        "dissolution", "Crystals that dissolve, cube-root law", {"m": "-k*m**(2/3)*(s - c)", "c": "k*m**(2/3)*(s - c)/V"},
        {"k": 0.05, "s": 4.0, "V": 2.0}, {"k": "L/(g^(2/3)*min)", "s": "g/L", "V": "L"},
        ((12.0, 0.0), (7.0, 1.0)), 15.0, "min", 50, "Hixson & Crowell, Ind. Eng. Chem. 23 (1931) 923",
    ),
    System(
        "freundlich", "Uptake by charcoal", {"q": "k*(f*c**0.42 - q)", "c": "-w*k*(f*c**0.42 - q)"},
        {"k": 0.4, "f": 20.0, "w": 1.0}, {"k": "1/h", "f": "mg^0.58*L^0.42/g", "w": "g/L"},
        ((0.0, 100.0), (10.0, 40.0)), 5.0, "h", 50, "Freundlich, Z. Phys. Chem. 57 (1906) 385; Glueckauf, Trans. Faraday Soc. 51 (1955) 1540",
    ),
    System(
        "coagulation", "Particles that stick together: all, single, in pairs", {"n": "-k/2*n**2", "n1": "-k*n1*n", "n2": "k/2*n1**2 - k*n2*n"},
        {"k": 0.012}, {"k": "pL/s"}, ((10.0, 10.0, 0.0), (8.0, 4.0, 1.0)), 60.0, "s", 60, "Smoluchowski, Z. Phys. Chem. 92 (1917) 129",
    ),
    System(
        "robertson", "Stiff autocatalysis", {"A": "-a*A + c*B*C", "B": "a*A - c*B*C - b*B**2", "C": "b*B**2"},
        {"a": 0.04, "b": 3e7, "c": 1e4}, {"a": "1/s", "b": "1/s", "c": "1/s"},
        ((1.0, 0.0, 0.0), (0.5, 0.0, 0.5)), 40.0, "s", 80, "Robertson, in Walsh (ed.), Numerical Analysis, 1966",
    ),
    System(
        "thermal_explosion", "Reaction that heats itself", {"c": "-A*exp(-B/T)*c", "T": "J*A*exp(-B/T)*c - h*(T - u)"},
        {"A": 1e10, "B": 8000.0, "J": 60.0, "h": 0.2, "u": 300.0},
        {"A": "1/min", "B": "K", "J": "K*L/mol", "h": "1/min", "u": "K"},
        ((2.0, 300.0), (1.0, 310.0)), 10.0, "min", 100, "Semenov, Z. Phys. 48 (1928) 571", transcendental=True,
    ),
    System(
        "brusselator", "Autocatalytic oscillator", {"x": "a + x**2*y - (b + 1)*x", "y": "b*x - x**2*y"},
        {"a": 1.0, "b": 3.0}, {"a": "", "b": ""},
        ((1.2, 3.1), (0.5, 2.0)), 20.0, "", 150, "Prigogine & Lefever, J. Chem. Phys. 48 (1968) 1695",
    ),
    System(
        "schnakenberg", "Two-species oscillator", {"x": "a - x + x**2*y", "y": "b - x**2*y"}, {"a": 0.1, "b": 0.5}, {"a": "", "b": ""},
        ((0.7, 1.2), (1.5, 0.6)), 40.0, "", 150, "Schnakenberg, J. Theor. Biol. 81 (1979) 389",
    ),
    System(
        "oregonator", "Belousov-Zhabotinsky reaction",
        {"x": "(q*y - x*y + x*(1 - x))/e", "y": "(-q*y - x*y + f*z)/d", "z": "x - z"},
        {"q": 8e-4, "e": 0.04, "d": 4e-4, "f": 1.0}, {"q": "", "e": "", "d": "", "f": ""},
        ((0.2, 0.5, 0.1), (0.005, 30.0, 0.2)), 15.0, "", 200,
        "Field & Noyes, J. Chem. Phys. 60 (1974) 1877; Tyson, in Field & Burger (eds.), Oscillations and Traveling Waves, 1985",
    ),
    System(
        "lengyel_epstein", "Chlorine dioxide, iodine and malonic acid", {"x": "a - x - 4*x*y/(1 + x**2)", "y": "b*x*(1 - y/(1 + x**2))"},
        {"a": 10.0, "b": 2.0}, {"a": "", "b": ""}, ((0.5, 3.0), (4.0, 9.0)), 12.0, "", 150,
        "Lengyel, Rabai & Epstein, J. Am. Chem. Soc. 112 (1990) 9104; Strogatz, Nonlinear Dynamics and Chaos, 1994, section 8.3",
    ),
    # ---------------------------------------------------------------- cells and bodies
    System(
        "michaelis_menten", "Enzyme kinetics", {"S": "-v*S/(K + S)"}, {"v": 1.0, "K": 2.0}, {"v": "mmol/(L*min)", "K": "mmol/L"},
        ((10.0,), (4.0,)), 20.0, "min", 60, "Michaelis & Menten, Biochem. Z. 49 (1913) 333",
    ),
    System(
        "reversible_enzyme", "Enzyme kinetics with product",
        {"S": "-(v*S/K - w*P/L)/(1 + S/K + P/L)", "P": "(v*S/K - w*P/L)/(1 + S/K + P/L)"},
        {"v": 1.2, "K": 1.5, "w": 0.4, "L": 3.0}, {"v": "mmol/(L*min)", "K": "mmol/L", "w": "mmol/(L*min)", "L": "mmol/L"},
        ((8.0, 0.0), (1.0, 12.0)), 15.0, "min", 50, "Haldane, Enzymes, Longmans 1930; Cornish-Bowden, Fundamentals of Enzyme Kinetics, ch. 2",
    ),
    System(
        "selkov", "Oscillating glycolysis", {"x": "-x + a*y + x**2*y", "y": "b - a*y - x**2*y"},
        {"a": 0.08, "b": 0.6}, {"a": "", "b": ""}, ((1.0, 1.0), (0.3, 2.0)), 40.0, "", 150,
        "Sel'kov, Eur. J. Biochem. 4 (1968) 79; Strogatz, Nonlinear Dynamics and Chaos, 1994, section 7.3",
    ),
    System(
        "toggle_switch", "Two genes that switch each other off", {"u": "a/(1 + v**b) - u", "v": "c/(1 + u**g) - v"},
        {"a": 156.25, "b": 2.5, "c": 15.6, "g": 1.0}, {"a": "", "b": "", "c": "", "g": ""},
        ((3.0, 2.0), (60.0, 12.0)), 8.0, "", 60, "Gardner, Cantor & Collins, Nature 403 (2000) 339",
    ),
    System(
        "s_system", "Branched pathway with feedback",
        {"X1": "a*X3**(-0.8) - b*X1**0.5", "X2": "c*X1**0.5 - d*X2**0.75", "X3": "d*X2**0.75 - e*X3**0.5*X4**0.2", "X4": "f*X1**0.5 - g*X4**0.8"},
        {"a": 12.0, "b": 10.0, "c": 8.0, "d": 3.0, "e": 5.0, "f": 2.0, "g": 6.0},
        {"a": "", "b": "", "c": "", "d": "", "e": "", "f": "", "g": ""},
        ((1.4, 2.7, 1.2, 0.4), (0.3, 0.5, 3.0, 1.2)), 3.0, "", 60,
        "Voit & Almeida, Bioinformatics 20 (2004) 1670; Voit, Computational Analysis of Biochemical Systems, 2000",
    ),
    System(
        "five_genes", "Genes that switch each other on and off",
        {
            "X1": "a*X3/X5 - b*X1**2", "X2": "b*X1**2 - b*X2**2", "X3": "b/X2 - b*X3**2/X2",
            "X4": "c*X3**2/X5 - b*X4**2", "X5": "b*X4**2 - b*X5**2",
        },
        {"a": 5.0, "b": 10.0, "c": 8.0}, {"a": "", "b": "", "c": ""},
        ((0.7, 0.12, 0.14, 0.16, 0.18), (0.1, 0.7, 1.5, 0.8, 0.4)), 0.5, "", 60,
        "Hlavacek & Savageau, J. Mol. Biol. 255 (1996) 121; Kikuchi et al., Bioinformatics 19 (2003) 643",
    ),
    System(
        "two_compartments", "Drug in blood and tissue", {"A1": "-(k + a)*A1 + b*A2", "A2": "a*A1 - b*A2"},
        {"k": 0.3, "a": 0.5, "b": 0.25}, {"k": "1/h", "a": "1/h", "b": "1/h"},
        ((100.0, 0.0), (20.0, 60.0)), 12.0, "h", 48, "Gibaldi & Perrier, Pharmacokinetics, Dekker 1982, ch. 2",
    ),
    # ---------------------------------------------------------------- economies
    System(
        "city_growth", "Growth of a city whose income rises faster than its size, in thousands of people", {"N": "a*N**1.15 - b*N"},
        {"a": 0.01, "b": 0.01}, {"a": "1/(kperson^0.15*year)", "b": "1/year"}, ((50.0,), (800.0,)), 100.0, "year", 51,
        "Bettencourt et al., PNAS 104 (2007) 7301, eq. 3",
    ),
    System(
        "solow", "Capital per head", {"k": "s*k**0.35 - d*k"}, {"s": 0.3, "d": 0.08}, {"s": "1/year", "d": "1/year"},
        ((1.0,), (15.0,)), 80.0, "year", 50, "Solow, Q. J. Econ. 70 (1956) 65",
    ),
    System(
        "two_capitals", "Machines and skills per head", {"k": "s*k**a*h**b - d*k", "h": "r*k**a*h**b - d*h"},
        {"s": 0.25, "r": 0.15, "a": 0.31, "b": 0.28, "d": 0.06}, {"s": "1/year", "r": "1/year", "a": "", "b": "", "d": "1/year"},
        ((2.0, 8.0), (60.0, 5.0)), 80.0, "year", 60, "Mankiw, Romer & Weil, Q. J. Econ. 107 (1992) 407, section II",
    ),
    System(
        "goodwin", "Growth cycle of wages and employment", {"u": "u*(b*v - a)", "v": "v*(c - d*u)"},
        {"a": 0.4, "b": 0.5, "c": 0.3, "d": 0.4}, {"a": "1/year", "b": "1/year", "c": "1/year", "d": "1/year"},
        ((0.6, 0.9), (0.9, 0.7)), 60.0, "year", 120, "Goodwin, in Feinstein (ed.), Socialism, Capitalism and Economic Growth, 1967",
    ),
)  # fmt: skip
