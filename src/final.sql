-- Closes the house: nothing for everybody, the interface for billing_user, everything owned by billing_owner.

REVOKE ALL ON ALL ROUTINES IN SCHEMA billing, billing_internal FROM PUBLIC;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA billing TO billing_user;
GRANT SELECT ON ALL TABLES IN SCHEMA billing TO billing_user;
-- without row-level security, nobody reads it
REVOKE SELECT ON billing.usage_inbox, billing.inbox_refused FROM billing_user;
REVOKE ALL ON ALL TABLES IN SCHEMA billing_internal FROM PUBLIC, billing_user;

SELECT billing_internal.adopt();
