-- The installation: entities, persons, logins, duties; the actor; money and calendar.

CREATE OR REPLACE FUNCTION billing_internal.require_duty(entity_id integer, VARIADIC duties text[]) RETURNS void
	STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_check_duty';
COMMENT ON FUNCTION billing_internal.require_duty(integer, text[]) IS
	'Raises ZB003 unless the actor holds one of the duties in the entity';

CREATE OR REPLACE FUNCTION billing_internal.require_admin(entity_id integer) RETURNS void
	STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_check_admin';
COMMENT ON FUNCTION billing_internal.require_admin(integer) IS
	'Raises ZB003 unless the session user is a member of billing_owner or the actor holds the duty admin in the entity; entity 0 is the installation';

CREATE OR REPLACE FUNCTION billing_internal.entity_id(entity text) RETURNS integer
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_find_entity';
COMMENT ON FUNCTION billing_internal.entity_id(text) IS
	'The id of an entity that the actor may see; raises ZB002 otherwise';
GRANT EXECUTE ON FUNCTION billing_internal.entity_id(text) TO billing_user;

CREATE OR REPLACE FUNCTION billing_internal.actor_id() RETURNS integer
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_actor_id';
COMMENT ON FUNCTION billing_internal.actor_id() IS
	'The id of the person who acts, or null where the session user is nobody''s login';

CREATE OR REPLACE FUNCTION billing_internal.session_person_id() RETURNS integer
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_session_person_id';
COMMENT ON FUNCTION billing_internal.session_person_id() IS
	'The id of the person whose login the session user is, whomever they act for';

CREATE OR REPLACE FUNCTION billing.act_as(person text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_act_as';
COMMENT ON FUNCTION billing.act_as(text) IS
	'Acts for a person until the transaction ends: for the login of an application, which needs the duty application in the same entities; null ends it';

CREATE OR REPLACE FUNCTION billing.current_actor() RETURNS text
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_current_actor';
COMMENT ON FUNCTION billing.current_actor() IS
	'The code of the person who acts now';

CREATE OR REPLACE FUNCTION billing.has_duty(entity text, duty text) RETURNS boolean
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_holds_duty';
COMMENT ON FUNCTION billing.has_duty(text, text) IS
	'Whether the actor holds a duty in an entity today';

CREATE OR REPLACE FUNCTION billing.create_entity(
	entity text, name text, currency text, time_zone text, country text DEFAULT NULL,
	fiscal_year_start integer DEFAULT 1, rounding_mode text DEFAULT 'half_up') RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_create_entity';
COMMENT ON FUNCTION billing.create_entity(text, text, text, text, text, integer, text) IS
	'Creates a legal entity; for members of billing_owner';

CREATE OR REPLACE FUNCTION billing.set_parent_entity(entity text, parent text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_set_parent_entity';
COMMENT ON FUNCTION billing.set_parent_entity(text, text) IS
	'Puts an entity below another one, whose approval policies hold where it has none of a kind (null: it stands alone); for admins of the entity and of the parents, old and new, and members of billing_owner';

CREATE OR REPLACE FUNCTION billing.add_person(person text, name text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_add_person';
COMMENT ON FUNCTION billing.add_person(text, text) IS
	'Creates a person; for members of billing_owner';

CREATE OR REPLACE FUNCTION billing.add_login(person text, role text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_add_login';
COMMENT ON FUNCTION billing.add_login(text, text) IS
	'Makes a database role the login of a person; for members of billing_owner';

CREATE OR REPLACE FUNCTION billing.grant_duty(
	entity text, person text, duty text, valid_from date DEFAULT NULL, valid_to date DEFAULT NULL,
	approval_limit numeric DEFAULT NULL, approval_level integer DEFAULT NULL, daily_limit numeric DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_grant_duty';
COMMENT ON FUNCTION billing.grant_duty(text, text, text, date, date, numeric, integer, numeric) IS
	'Gives a person a duty in an entity from a day (today) to the day before another (open); for the entity''s admins, who cannot grant to themselves, and members of billing_owner';

CREATE OR REPLACE FUNCTION billing.revoke_duty(entity text, person text, duty text, day date DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_revoke_duty';
COMMENT ON FUNCTION billing.revoke_duty(text, text, text, date) IS
	'Ends a person''s duty in an entity with the day before the given one (today)';

CREATE OR REPLACE FUNCTION billing.round_amount(amount numeric, minor_unit integer, mode text DEFAULT 'half_up')
	RETURNS numeric
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_round_amount';
COMMENT ON FUNCTION billing.round_amount(numeric, integer, text) IS
	'Rounds an amount to a currency''s minor unit: half_up is half away from zero, half_even half to the even digit';

CREATE OR REPLACE FUNCTION billing.prorate(amount numeric, days integer, of_days integer) RETURNS numeric
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_prorate';
COMMENT ON FUNCTION billing.prorate(numeric, integer, integer) IS
	'The share of an amount that falls to some of its days, unrounded';

CREATE OR REPLACE FUNCTION billing.period_start(anchor date, unit text, count integer, n bigint) RETURNS date
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_sql_period_start';
COMMENT ON FUNCTION billing.period_start(date, text, integer, bigint) IS
	'The first day of billing period n of an anchor; period 0 begins at the anchor, and a day that a month lacks becomes its last';

CREATE OR REPLACE FUNCTION billing.period_index(anchor date, unit text, count integer, day date) RETURNS bigint
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_sql_period_index';
COMMENT ON FUNCTION billing.period_index(date, text, integer, date) IS
	'The number of the billing period that a day lies in';

CREATE OR REPLACE FUNCTION billing.pre_restore() RETURNS void
	SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_pre_restore';
COMMENT ON FUNCTION billing.pre_restore() IS
	'Call in a new database before pg_restore loads the rows of a dump; superusers only';

CREATE OR REPLACE FUNCTION billing.post_restore() RETURNS void
	SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_post_restore';
COMMENT ON FUNCTION billing.post_restore() IS
	'Call when pg_restore has loaded the rows of a dump, then run billing.verify(); superusers only';

CREATE OR REPLACE FUNCTION billing.verify(entity text DEFAULT NULL)
	RETURNS TABLE (invariant text, violations bigint, example text)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off SET enable_nestloop = off SET enable_bitmapscan = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_verify';
COMMENT ON FUNCTION billing.verify(text) IS
	'Recomputes every invariant of an entity, or of all that the actor may see, and counts what is broken';

CREATE OR REPLACE FUNCTION billing_internal.checked_date(value date, name text) RETURNS date
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_checked_date';
COMMENT ON FUNCTION billing_internal.checked_date(date, text) IS
	'A date that must be there and finite; raises ZB001 naming it otherwise';
