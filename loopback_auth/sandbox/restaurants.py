"""The restaurants one can log in as: invented test accounts, like those of a staging server."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Restaurant:
    """One invented restaurant and the back-office login that grants access to it.

    The password is printed on the login page: it protects nothing.
    """

    id: int
    name: str
    user_id: str
    password: str = field(repr=False)
    city: str
    country: str
    time_zone: str
    currency: str = "EUR"

    def company(self) -> dict[str, object]:
        """Return the object that `rest/core/company` shows for this restaurant."""
        return {
            "id": self.id,
            "name": self.name,
            "timeZone": self.time_zone,
            "city": self.city,
            "country": self.country,
            "globalId": f"00000000-0000-4000-8000-{self.id:012d}",
            "currencyCode": self.currency,
        }


RESTAURANTS: Final = (
    Restaurant(
        id=4711,
        name="Cafe Roma",
        user_id="cafe-roma",
        password="espresso",  # noqa: S106 - printed on the login page
        city="Roma",
        country="IT",
        time_zone="Europe/Rome",
    ),
    Restaurant(
        id=4712,
        name="Bistro Lyon",
        user_id="bistro-lyon",
        password="baguette",  # noqa: S106 - printed on the login page
        city="Lyon",
        country="FR",
        time_zone="Europe/Paris",
    ),
    Restaurant(
        id=4713,
        name="Trattoria Napoli",
        user_id="trattoria-napoli",
        password="margherita",  # noqa: S106 - printed on the login page
        city="Napoli",
        country="IT",
        time_zone="Europe/Rome",
    ),
    # a name that breaks whatever forgets to escape it
    Restaurant(
        id=4714,
        name="Zoë's <b>Diner</b>",
        user_id="zoes-diner",
        password="pancakes",  # noqa: S106 - printed on the login page
        city="Gent",
        country="BE",
        time_zone="Europe/Brussels",
    ),
)

NUMBERED: Final = 1000
"""How many restaurants there are beside those with names, to log in many: `restaurant-1`, `restaurant-2` and so on."""
NUMBERED_PASSWORD: Final = "practice"  # noqa: S105 - printed on the login page


def numbered(user_id: str) -> Restaurant | None:
    """Return the numbered restaurant with this login, made when it is asked for: none is kept."""
    found = re.fullmatch("restaurant-([1-9][0-9]{0,3})", user_id)
    if found is None or int(found[1]) > NUMBERED:
        return None
    number = int(found[1])
    return Restaurant(
        id=5000 + number,
        name=f"Restaurant {number}",
        user_id=user_id,
        password=NUMBERED_PASSWORD,
        city="Brussel",
        country="BE",
        time_zone="Europe/Brussels",
    )
