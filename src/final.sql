-- Closes the house: nothing for everybody, the interface for billing_user, everything owned by billing_owner.

REVOKE ALL ON ALL ROUTINES IN SCHEMA billing, billing_internal FROM PUBLIC;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA billing TO billing_user;
GRANT SELECT ON ALL TABLES IN SCHEMA billing TO billing_user;
-- without row-level security, nobody reads it
REVOKE SELECT ON billing.usage_inbox, billing.inbox_refused FROM billing_user;
REVOKE ALL ON ALL TABLES IN SCHEMA billing_internal FROM PUBLIC, billing_user;

SELECT billing_internal.adopt();

-- What is done to these objects from now on is recorded, whatever a session's replication role. Made last, so that the script
-- does not record itself; an upgrade finds them.
-- Their function stays with the superuser who runs the script: it runs beside every command of the database, as whoever gives it,
-- and whoever owned it could have it do anything.
ALTER FUNCTION billing_internal.audit_event() OWNER TO CURRENT_USER;
DROP EVENT TRIGGER IF EXISTS billing_audit_commands;
DROP EVENT TRIGGER IF EXISTS billing_audit_drops;
CREATE EVENT TRIGGER billing_audit_commands ON ddl_command_end EXECUTE FUNCTION billing_internal.audit_event();
CREATE EVENT TRIGGER billing_audit_drops ON sql_drop EXECUTE FUNCTION billing_internal.audit_event();
ALTER EVENT TRIGGER billing_audit_commands ENABLE ALWAYS;
ALTER EVENT TRIGGER billing_audit_drops ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER billing_audit_commands IS 'Records commands on the objects of billing_erp in the audit log';
COMMENT ON EVENT TRIGGER billing_audit_drops IS 'Records in the audit log what of billing_erp is dropped';
