"""x"""

from __future__ import annotations
from nodes.cpu.kernel.net.bonding.ad import AdRules
from nodes.cpu.kernel.params import Params


def ad_rules(params: Params) -> AdRules:
    """The era's behaviours, as the machines want them."""
    return AdRules(
        speed_key=params.ad_speed_key,
        default_partner_state=params.ad_partner_default,
        expired_partner=params.ad_expired_partner,
        attached_sync=params.ad_attached_sync,
        candidates=params.ad_candidates,
        link_change=params.ad_link_change,
        carrier=params.ad_carrier,
        selection_wait=params.ad_selection_wait,
        matched_again=params.ad_matched_again,
        churn=params.ad_churn,
    )
