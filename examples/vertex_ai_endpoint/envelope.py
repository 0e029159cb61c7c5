"""Der Umschlag der Agent Platform um die Frage des Falls."""

from pydantic import BaseModel

from examples.price_model.schema import Batch


class Instances(BaseModel):
    """Eine Liste von Steinen; andere Felder wie `parameters` sind erlaubt und ohne Wirkung."""

    instances: Batch
