-- What a meter takes from an event: fields and paths, filters, group keys, values that count once; what a definition may be, and
-- what becomes of events when it changes.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(246);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme');
SELECT pg_temp.stock('acme');

-- An event of a meter, as its source sends it
CREATE FUNCTION pg_temp.event(id text, type text, data jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'source', '/s', 'type', type, 'subject', 'a1', 'time', '2026-07-15T12:00:00Z')
		|| CASE WHEN data IS NULL THEN '{}' ELSE jsonb_build_object('data', data) END;
$$;
-- quantity|dimensions|sample of an event, - where it was left out; or why it is malformed
CREATE FUNCTION pg_temp.taken(id text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s|%s|%s', coalesce(e.quantity::text, '-'), e.dimensions, e.sample) FROM billing.usage_event e WHERE e.event_key = id
	UNION ALL
	SELECT x.detail FROM billing.exception x WHERE x.kind = 'usage_malformed' AND x.payload ->> 'id' = id AND x.state = 'open';
$$;
CREATE SEQUENCE pg_temp.cases;
-- What a meter of this definition takes from this data
CREATE FUNCTION pg_temp.takes(aggregation text, value_field text, filter text, group_by text[], data jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	name text := 'case-' || nextval('pg_temp.cases');
BEGIN
	PERFORM pg_temp.must('ada', format('SELECT billing.add_meter(%L, %L, %L, %L, %L, %L, %L)', 'acme', name, name, aggregation, value_field, filter, group_by)),
		pg_temp.must('ada', format('SELECT * FROM billing.ingest_usage(%L, %L)', 'acme', pg_temp.event(name, name, data)));
	RETURN pg_temp.taken(name);
END $$;

-- A number: of a field, or at a path
SELECT is(pg_temp.takes('sum', value_field, NULL, NULL, data::jsonb), expected, format('%s of %s', value_field, data))
FROM (VALUES
	('gb', '{"gb": 5}', '5||'),
	('gb', '{"gb": "7.50"}', '7.50||'),
	('gb', '{"GB": 5}', 'data.gb is missing'),
	('gb', NULL, 'data.gb is missing'),
	('usage.gb', '{"usage": {"gb": 5}, "usage.gb": 6}', '6||'),
	('$.gb', '{"gb": 1.25}', '1.25||'),
	('$.gb', '{"gb": "1.25"}', '1.25||'),
	('$.gb', '{"gb": -3}', '-3||'),
	('$.gb', NULL, 'data at $.gb has no value'),
	('$.usage.gb', '{"usage": {"gb": 3}}', '3||'),
	('$.usage.gb', '{"usage": {}}', 'data at $.usage.gb has no value'),
	('$.usage.gb', '{"usage": {"gb": null}}', 'data at $.usage.gb has no value'),
	('$.usage.gb', '{"usage": 5}', 'data at $.usage.gb has no value'),
	('$.usage.gb', '{"usage": {"gb": "twelve"}}', 'data at $.usage.gb is not a number in range'),
	('$.usage.gb', '{"usage": {"gb": "NaN"}}', 'data at $.usage.gb is not a number in range'),
	('$.usage.gb', '{"usage": {"gb": 1e36}}', 'data at $.usage.gb is not a number in range'),
	('$.usage.gb', '{"usage": {"gb": 1e-41}}', 'data at $.usage.gb is not a number in range'),
	('$.usage.gb', '{"usage": {"gb": true}}', 'data at $.usage.gb is not a number in range'),
	('$.usage.gb', '{"usage": {"gb": [1]}}', 'data at $.usage.gb is not a number in range'),
	('$.usage.gb', '{"usage": {"gb": {"n": 1}}}', 'data at $.usage.gb is not a number in range'),
	('$', '{"gb": 1}', 'data at $ is not a number in range'),
	-- a path that finds several values finds none: nobody said which
	('$.usage.gb', '{"usage": [{"gb": 1}]}', '1||'),
	('$.usage.gb', '{"usage": [{"gb": 1}, {"gb": 2}]}', 'data at $.usage.gb is more than one value'),
	('$.usage[*].gb', '{"usage": [{"gb": 1}, {"gb": 1}]}', 'data at $.usage[*].gb is more than one value'),
	('$.*', '{"a": 1, "b": 2}', 'data at $.* is more than one value'),
	('$.usage[0].gb', '{"usage": [{"gb": 1}, {"gb": 2}]}', '1||'),
	('$.usage[last].gb', '{"usage": [{"gb": 1}, {"gb": 2}]}', '2||'),
	('$.usage[2].gb', '{"usage": [{"gb": 1}, {"gb": 2}]}', 'data at $.usage[2].gb has no value'),
	('$.parts[*] ? (@.kind == "cpu").n', '{"parts": [{"kind": "cpu", "n": 4}, {"kind": "ram", "n": 8}]}', '4||'),
	('$.**.gb', '{"x": {"y": {"gb": 9}}}', '9||'),
	('$.parts.size()', '{"parts": [5, 6, 7]}', '3||'),
	('$."a b"."c.d"', '{"a b": {"c.d": 2}}', '2||'),
	('$."$x"', '{"$x": 2}', '2||'),
	('$.größe', '{"größe": 2}', '2||'),
	-- arithmetic is exact
	('$.in + $.out', '{"in": 0.1, "out": 0.2}', '0.3||'),
	('$.in + $.out', '{"in": 0.1}', 'data at $.in + $.out cannot be evaluated: right operand of jsonpath operator + is not a single numeric value'),
	('$.in + $.out', '{"in": 0.1, "out": "0.2"}', 'data at $.in + $.out cannot be evaluated: right operand of jsonpath operator + is not a single numeric value'),
	('($.in + $.out) * 10', '{"in": 0.1, "out": 0.2}', '3.0||'),
	('-$.out', '{"out": 0.2}', '-0.2||'),
	('strict $.usage.gb', '{"usage": {"gb": 3}}', '3||'),
	('strict $.usage.gb', '{"usage": [{"gb": 3}]}', 'data at strict $.usage.gb cannot be evaluated: jsonpath member accessor can only be applied to an object'),
	('strict $.gb', '{}', 'data at strict $.gb cannot be evaluated: JSON object does not contain key "gb"'),
	('$.bits * 125', '{"bits": 123456789012345678901234567}', '15432098626543209862654320875||'),
	('$.a / $.b', '{"a": 1, "b": 0}', 'data at $.a / $.b cannot be evaluated: division by zero'),
	('$.n[*].abs()', '{"n": [-1, "x"]}', 'data at $.n[*].abs() cannot be evaluated: jsonpath item method .abs() can only be applied to a numeric value'),
	('$.a' || repeat(' + (0', 150) || repeat(')', 150), '{"a": 1}', '1||'),
	('$.a * $.a', '{"a": 1e20}', 'data at $.a * $.a is not a number in range')
) AS c (value_field, data, expected);
SELECT is(pg_temp.takes(aggregation, 'mbit', NULL, NULL, '{"mbit": 2.5}'), '2.5||', aggregation || ' takes a number')
FROM unnest('{sum,max,min,latest,time_weighted,percentile}'::text[]) aggregation;
SELECT is(pg_temp.takes(aggregation, 'mbit', NULL, NULL, '{"mbit": "fast"}'), 'data.mbit is not a number in range', aggregation || ' takes nothing else')
FROM unnest('{sum,max,min,latest,time_weighted,percentile}'::text[]) aggregation;
SELECT is(pg_temp.takes('count', 'mbit', NULL, NULL, data::jsonb), '1||', format('count takes any event: %s', data))
FROM unnest('{"{\"mbit\": 2.5}","{\"mbit\": []}","{}",NULL}'::text[]) data;

-- Filters: what is not true is left out, whatever the rest is
SELECT is(pg_temp.takes('sum', 'n', filter, NULL, data::jsonb), expected, format('%s for %s', filter, data))
FROM (VALUES
	('$.status == 200', '{"n": 7, "status": 200}', '7||'),
	('$.status == 200', '{"n": 7, "status": 200.0}', '7||'),
	('$.status == 200', '{"n": 7, "status": 500}', '-||'),
	('$.status == 200', '{"n": 7, "status": "200"}', '-||'),
	('$.status == 200', '{"n": 7, "status": null}', '-||'),
	('$.status == 200', '{"n": 7, "status": {"a": 200}}', '-||'),
	('$.status == 200', '{"n": 7, "status": [500, 200]}', '7||'),
	('$.status == 200', '{"n": 7}', '-||'),
	('$.status == 200', NULL, '-||'),
	('$.status == 200', '{"n": "seven", "status": 500}', '-||'),
	('$.status == 200', '{"status": 500}', '-||'),
	('$.status == 200', '{"n": "seven", "status": 200}', 'data.n is not a number in range'),
	('strict $.status == 200', '{"n": 7, "status": [500, 200]}', '-||'),
	('$.status != 200', '{"n": 7}', '-||'),
	('!($.status == 200)', '{"n": 7}', '7||'),
	('($.status == 200) is unknown', '{"n": 7, "status": "200"}', '7||'),
	('!exists($.test)', '{"n": 7}', '7||'),
	('!exists($.test)', '{"n": 7, "test": null}', '-||'),
	('exists($.tags[*] ? (@ == "paid"))', '{"n": 7, "tags": ["new", "paid"]}', '7||'),
	('exists($.tags[*] ? (@ == "paid"))', '{"n": 7, "tags": []}', '-||'),
	('$.n > 5 && ($.region == "eu" || $.region == "us")', '{"n": 7, "region": "us"}', '7||'),
	('$.n > 5 && ($.region == "eu" || $.region == "us")', '{"n": 5, "region": "us"}', '-||'),
	('$.path starts with "/v2"', '{"n": 7, "path": "/v2/x"}', '7||'),
	('$.path starts with "/v2"', '{"n": 7, "path": 2}', '-||'),
	('$.path like_regex "^/V[12]/" flag "i"', '{"n": 7, "path": "/v2/x"}', '7||'),
	('$.path like_regex "^/V[12]/" flag "i"', '{"n": 7, "path": "/v3/x"}', '-||'),
	('$.a / $.b > 1', '{"n": 7, "a": 4, "b": 2}', '7||'),
	('$.a / $.b > 1', '{"n": 7, "a": 4, "b": 0}', '-||'),
	('$.a / $.b > 1', '{"n": 7, "a": "x", "b": []}', '-||'),
	('$.a[$.i] == 3', '{"n": 7, "a": [1, 3], "i": 1}', '7||'),
	('$.a[$.i] == 3', '{"n": 7, "a": [1, 3], "i": 1e30}', '-||'),
	('$.a[$.i] == 3', '{"n": 7, "a": [1, 3], "i": "x"}', '-||')
) AS c (filter, data, expected);
SELECT is(pg_temp.takes('count', 'n', '!exists($.test)', NULL, NULL), '1||', 'without data, a filter looks at an empty object');

-- Group keys
SELECT is(pg_temp.takes('count', 'n', NULL, group_by::text[], data::jsonb), expected, format('%s of %s', group_by, left(data, 60)))
FROM (VALUES
	('{region}', '{"region": "eu"}', '1|{"region": "eu"}|'),
	('{region}', '{"region": ""}', '1|{"region": ""}|'),
	('{region}', '{"region": null}', '1|{"region": null}|'),
	('{region}', '{}', '1|{"region": null}|'),
	('{region}', NULL, '1|{"region": null}|'),
	('{region}', '{"region": 1}', '1|{"region": 1}|'),
	('{region}', '{"region": 1.00}', '1|{"region": 1}|'),
	('{region}', '{"region": 1e3}', '1|{"region": 1000}|'),
	('{region}', '{"region": -0.50}', '1|{"region": -0.5}|'),
	('{region}', '{"region": "1"}', '1|{"region": "1"}|'),
	('{region}', '{"region": false}', '1|{"region": false}|'),
	('{region}', '{"region": "a\"b\\c\u00e9\n\u0001"}', '1|{"region": "a\"b\\cé\n\u0001"}|'),
	('{region}', '{"region": []}', 'data.region is not a single value'),
	('{region}', '{"region": {"a": 1}}', 'data.region is not a single value'),
	('{region,az}', '{"region": "eu", "az": "eu-1"}', '1|{"az": "eu-1", "region": "eu"}|'),
	('{zone,size=$.spec.size}', '{"zone": "a", "spec": {"size": 2}}', '1|{"size": 2, "zone": "a"}|'),
	('{zone,size=$.spec.size}', '{"zone": "a", "size": 3}', '1|{"size": null, "zone": "a"}|'),
	('{size=$.spec}', '{"spec": {"size": 2}}', 'data at $.spec is not a single value'),
	('{tag=$.tags[*]}', '{"tags": ["a"]}', '1|{"tag": "a"}|'),
	('{tag=$.tags[*]}', '{"tags": ["a", "a"]}', 'data at $.tags[*] is more than one value'),
	('{"large=$.gb >= 100"}', '{"gb": 100}', '1|{"large": true}|'),
	('{"large=$.gb >= 100"}', '{"gb": "many"}', '1|{"large": null}|'),
	('{"busy=($.in + $.out) > 3"}', '{"in": 2, "out": 2}', '1|{"busy": true}|'),
	('{"a\"b=$.x"}', '{"x": 1}', '1|{"a\"b": 1}|'),
	('{a,b,c,d,e,f,g,h}', '{"c": 3}', '1|{"a": null, "b": null, "c": 3, "d": null, "e": null, "f": null, "g": null, "h": null}|'),
	-- {"region": "…"} is 14 bytes and the text
	('{region}', format('{"region": "%s"}', repeat('x', 986)), format('1|{"region": "%s"}|', repeat('x', 986))),
	('{region}', format('{"region": "%s"}', repeat('x', 987)), 'group keys have 1001 bytes; at most 1000 are taken'),
	('{region}', '{"region": 1e1000}', 'group keys have 1013 bytes; at most 1000 are taken')
) AS c (group_by, data, expected);
SELECT is_empty($$SELECT dimensions FROM billing.usage_event WHERE dimensions <> '' AND dimensions::jsonb::text <> dimensions$$,
	'dimensions are written as jsonb writes them');
SELECT is(pg_temp.takes('sum', '$.usage.n', '$.status == 200', '{region,size=$.spec.size}', data::jsonb), expected, format('all together: %s', data))
FROM (VALUES
	('{"status": 200, "usage": {"n": 1.5}, "region": "eu", "spec": {"size": "xl"}}', '1.5|{"size": "xl", "region": "eu"}|'),
	('{"status": 404, "usage": {"n": 1.5}, "region": "eu", "spec": {"size": "xl"}}', '-||'),
	('{"status": 404, "usage": [], "region": []}', '-||'),
	('{"status": 200, "usage": [], "region": []}', 'data at $.usage.n has no value')
) AS c (data, expected);

-- Values that count once
SELECT is(pg_temp.takes('unique_count', value_field, NULL, NULL, data::jsonb), expected, format('unique %s of %s', value_field, left(data, 60)))
FROM (VALUES
	('user', '{"user": "ann"}', '1||"ann"'),
	('user', '{"user": ""}', '1||""'),
	('user', '{"user": 7}', '1||7'),
	('user', '{"user": 7.0}', '1||7'),
	('user', '{"user": "7"}', '1||"7"'),
	('user', '{"user": true}', '1||true'),
	('user', '{"user": "O\"Neil\n"}', '1||"O\"Neil\n"'),
	('user', '{"user": null}', 'data.user is missing'),
	('user', '{}', 'data.user is missing'),
	('user', NULL, 'data.user is missing'),
	('user', '{"user": ["ann"]}', 'data.user is not a single value'),
	('user', '{"user": {"id": 1}}', 'data.user is not a single value'),
	('$.session.user', '{"session": {"user": "ann"}}', '1||"ann"'),
	('$.session.user', '{"session": []}', 'data at $.session.user has no value'),
	('$.users[*]', '{"users": ["ann", "bob"]}', 'data at $.users[*] is more than one value'),
	('user', format('{"user": "%s"}', repeat('é', 127)), format('1||"%s"', repeat('é', 127))),
	('user', format('{"user": "%s"}', repeat('x', 255)), 'data.user has 257 bytes as JSON; at most 256 are taken'),
	('user', '{"user": 1e256}', 'data.user has 257 bytes as JSON; at most 256 are taken')
) AS c (value_field, data, expected);
SELECT is(pg_temp.takes('unique_count', 'user', '!exists($.bot)', '{region}', data::jsonb), expected, format('unique, filtered and grouped: %s', data))
FROM (VALUES
	('{"user": "ann", "region": "eu"}', '1|{"region": "eu"}|"ann"'),
	('{"user": "ann", "region": "eu", "bot": true}', '-||')
) AS c (data, expected);

-- Data that the server cannot evaluate a path on makes one event malformed and stops no other
SELECT pg_temp.must('ada', $$SELECT billing.add_meter('acme', 'deep', 'Deep', 'sum', '$.**.gb'), billing.add_meter('acme', 'deep-filter', 'Deep', 'count', 'n', 'exists($.** ? (@.test == 1))')$$);
CREATE TEMP TABLE deep AS
SELECT jsonb_agg(pg_temp.event(type || n, type, CASE n WHEN 1 THEN '{"gb": 1, "test": 1}' ELSE data END)) AS events
FROM (SELECT jsonb_build_object('gb', 1, 'x', (repeat('[', 5000) || repeat(']', 5000))::jsonb) AS data) d, unnest('{deep,deep-filter}'::text[]) type, generate_series(1, 2) n;
GRANT SELECT ON deep TO billing_user;
SET LOCAL max_stack_depth = '400kB';
SELECT is(pg_temp.told('ada', $$SELECT format('%s/%s', accepted, quarantined) FROM deep, billing.ingest_usage('acme', events)$$), '2/2', 'events nested too deep');
RESET max_stack_depth;
SELECT is(pg_temp.taken(id), expected, id)
FROM (VALUES ('deep1', '1||'), ('deep2', 'data at $.**.gb cannot be evaluated: stack depth limit exceeded'), ('deep-filter1', '1||'), ('deep-filter2', 'data cannot be evaluated by the meter''s filter: stack depth limit exceeded')) AS c (id, expected);

-- What a definition may be
SELECT is(pg_temp.told('ada', format('SELECT billing.add_meter(%L, %L, %L, %s)', 'acme', 'bad', 'Bad', arguments)), coalesce('ZB001 ' || message, 'ZB001 new row for relation "meter" violates check constraint "meter_' || rule || '"'), left(arguments, 80))
FROM (VALUES
	($$'average'$$, 'aggregation_known', NULL),
	($$'sum', ''$$, NULL, 'value field must not be empty'),
	($$'sum', repeat('x', 1001)$$, 'value_field_length', NULL),
	($$'sum', '$.'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$.a['$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$.a = '$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$.a[last'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$ last'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$.a ? (@.b like_regex "(")'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$.a ? (@.b like_regex "a" flag "x")'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$."\u0000"'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$' || repeat('.a', 500)$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$cost'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', 'cost $'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '($.a'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$.a * $"rate"'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$.a.double()'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$.at.datetime()'$$, 'value_field_is_field_or_path', NULL),
	($$'sum', '$.a', ''$$, NULL, 'filter must not be empty'),
	($$'sum', 'a', 'a == 1'$$, 'filter_is_predicate', NULL),
	($$'sum', 'a', '$.a'$$, 'filter_is_predicate', NULL),
	($$'sum', 'a', '$.a ? (@ == 1)'$$, 'filter_is_predicate', NULL),
	($$'sum', 'a', '$.a + 1'$$, 'filter_is_predicate', NULL),
	($$'sum', 'a', '($.a == 1).type()'$$, 'filter_is_predicate', NULL),
	($$'sum', 'a', 'true'$$, 'filter_is_predicate', NULL),
	($$'sum', 'a', '$.a == $x'$$, 'filter_is_predicate', NULL),
	($$'sum', 'a', '$.at.datetime() < "2026-07-01".datetime()'$$, 'filter_is_predicate', NULL),
	($$'sum', 'a', '$.a == "' || repeat('x', 1000) || '"'$$, 'filter_is_predicate', NULL),
	($$'sum', 'a', NULL, '{}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{NULL}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{""}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{{a},{b}}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{a,b,c,d,e,f,g,h,i}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{a,b,a}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{a,a=$.b}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{" a"}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{"a "}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, ARRAY[E'a\n']$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, ARRAY[repeat('x', 64)]$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{=$.a}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{a=}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{a=b}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{a=$.}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, '{a=$x}'$$, 'group_by_has_keys', NULL),
	($$'sum', 'a', NULL, NULL, 13$$, 'quantity_scale_in_range', NULL),
	($$'sum', 'a', NULL, NULL, -13$$, 'quantity_scale_in_range', NULL),
	($$'sum', 'a', NULL, NULL, 0, 'half'$$, 'quantity_rounding_known', NULL),
	($$'sum', 'a', NULL, NULL, 0, NULL$$, NULL, 'quantity rounding must not be null'),
	($$'percentile', 'a', percentile => 0$$, 'percentile_in_range', NULL),
	($$'percentile', 'a', percentile => 100.000001$$, 'percentile_in_range', NULL),
	($$'percentile', 'a', percentile => 99.9999999$$, 'percentile_in_range', NULL),
	($$'time_weighted', 'a', time_unit => 0$$, 'time_unit_in_range', NULL),
	($$'time_weighted', 'a', time_unit => 31622401$$, 'time_unit_in_range', NULL)
) AS c (arguments, rule, message);
SELECT is(pg_temp.try('ada', format('SELECT billing.add_meter(%L, %L, %L, %s)', 'acme', 'good-' || arguments, 'Good', arguments)), '', arguments)
FROM (VALUES
	($$'sum', '$'$$),
	($$'sum', 'a', NULL, ARRAY[repeat('x', 63)]$$),
	($$'max', 'a', '1 == 1', '{a,b,c,d,e,f,g,h}', -12, 'up', 0.000001, 1$$),
	($$'latest', '$.a.abs().floor().ceiling()', NULL, NULL, 12, 'down', 100, 31622400$$)
) AS c (arguments);
SELECT is(pg_temp.try('ada', format('UPDATE billing.meter SET %s WHERE code = %L', change, 'deep')), code, change)
FROM (VALUES
	($$value_field = '$.'$$, '23514'), ($$filter = '$.a'$$, '23514'), ($$filter = ''$$, '23514'), ($$value_field = '$.gb', filter = '$.a == 1'$$, '1'),
	($$code = 'deep'$$, '1'), ($$name = 'Deeper'$$, '1'), ($$expected_tolerance = 0$$, '1'),
	($$aggregation = 'max'$$, '42501'), ($$group_by = '{a}'$$, '42501'), ($$quantity_scale = 1$$, '42501'), ($$quantity_rounding = 'up'$$, '42501'),
	($$percentile = 1$$, '42501'), ($$time_unit = 60$$, '42501'), ($$meter_id = 1$$, '42501'), ($$entity_id = 1$$, '42501')
) AS c (change, code);

-- A changed definition acts on events from then on, also on those that wait
SELECT pg_temp.must('ada', $$SELECT billing.add_meter('acme', 'change', 'Change', 'sum', 'gb')$$);
CREATE FUNCTION pg_temp.send(VARIADIC ids text[]) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('SELECT accepted || %L || quarantined FROM billing.ingest_usage(%L, %L)', '/', 'acme',
		(SELECT jsonb_agg(pg_temp.event(id, 'change', '{"gb": 2, "disk": {"gb": 3}, "mb": 2000}')) FROM unnest(ids) id)));
$$;
CREATE FUNCTION pg_temp.change(change text) RETURNS text LANGUAGE sql AS $$ SELECT pg_temp.must('ada', format('UPDATE billing.meter SET %s WHERE code = %L', change, 'change')) $$;
SELECT is(pg_temp.send('first'), '1/0', 'before the change');
SELECT pg_temp.change($$value_field = '$.disk.gb'$$);
SELECT is(pg_temp.send('first', 'second'), '1/0', 'after a change of the path');
SELECT pg_temp.change($$filter = 'exists($.disk.tb)'$$);
SELECT is(pg_temp.send('third'), '1/0', 'after a change of the filter');
SELECT pg_temp.change($$value_field = '$.ssd.gb', filter = NULL$$);
SELECT is(pg_temp.send('fourth'), '0/1', 'a path that finds nothing');
SELECT pg_temp.change($$value_field = '$.mb / 1000'$$);
SELECT pg_temp.must('ada', $$SELECT * FROM billing.replay_usage('acme')$$);
SELECT is((SELECT state FROM billing.exception WHERE payload ->> 'id' = 'fourth'), 'resolved', 'is mended, and the event taken up');
SELECT is(pg_temp.taken('first'), '2||', 'what was taken stays');
SELECT is(pg_temp.taken('second'), '3||', 'of every event');
SELECT is(pg_temp.taken('third'), '-||', 'also of one that was left out');
SELECT is((SELECT quantity::numeric FROM billing.usage_event WHERE event_key = 'fourth'), 2::numeric, 'what waited was read by the definition of its replay');

-- What was stored is compared with the data, by every definition that the meter had
SELECT is_empty('SELECT pg_temp.broken()', 'every invariant holds');
CREATE FUNCTION pg_temp.forge(id text, change text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE format('UPDATE billing.usage_event SET %s WHERE event_key = %L', change, id);
	SET LOCAL session_replication_role = origin;
	RETURN QUERY SELECT invariant || ': ' || violations FROM billing.verify() WHERE violations <> 0;
	RAISE EXCEPTION USING errcode = 'P0002';
EXCEPTION WHEN no_data_found THEN
	NULL;
END $$;
SELECT is((SELECT string_agg(f, ' ') FROM pg_temp.forge(id, change) f), 'usage quantities and expected amounts come from the events'' data: 1', format('%s with %s is found', id, change))
FROM (VALUES
	('first', 'quantity = 2000'),
	('first', $$dimensions = '{"a": 1}'$$),
	('second', $$sample = '3'$$),
	('second', 'quantity = NULL, expected_amount = 1'),
	('case-1', 'quantity = NULL'),
	('case-1', 'quantity = 6'),
	('case-1', 'expected_amount = 5'),
	((SELECT min(event_key) FROM billing.usage_event WHERE dimensions = '{"region": "eu"}' AND sample = ''), $$dimensions = '{"region": "us"}'$$),
	((SELECT min(event_key) FROM billing.usage_event WHERE sample = '7'), $$sample = '"7"'$$)
) AS c (id, change);
SELECT is((SELECT string_agg(f, ' ') FROM pg_temp.forge('second', 'quantity = NULL') f), NULL, 'a filter of the past may have left an event out');

SELECT * FROM finish();
ROLLBACK;
