-- What is no tariff, and what no tariff can rate: each is refused with its code, and the message names the field.
BEGIN;
SET LOCAL search_path = public;
SELECT plan(190);

-- Malformed tariffs: text, and the message after "invalid tariff: "
CREATE TEMP TABLE malformed (id serial, tariff text, message text);
INSERT INTO malformed (tariff, message) VALUES
    -- not JSON
    ('', 'not valid JSON, expected an opening brace'),
    ('   ', 'not valid JSON, expected an opening brace'),
    ('null', 'not valid JSON, expected an opening brace'),
    ('5', 'not valid JSON, expected an opening brace'),
    ('"per_unit"', 'not valid JSON, expected an opening brace'),
    ('[]', 'not valid JSON, expected an opening brace'),
    ('{', 'not valid JSON, expected a key in double quotes'),
    ('{"model"', 'not valid JSON, expected a colon after the key'),
    ('{"model":', 'not valid JSON, expected a value'),
    ('{"model":"dynamic"', 'not valid JSON, expected a comma or a closing brace'),
    ('{"model":"dynamic",}', 'not valid JSON, expected a key in double quotes'),
    ('{"model":"dynamic"} x', 'not valid JSON, expected nothing after the closing brace'),
    ('{"model":"dynamic"}{}', 'not valid JSON, expected nothing after the closing brace'),
    ('{model:"dynamic"}', 'not valid JSON, expected a key in double quotes'),
    ('{''model'':''dynamic''}', 'not valid JSON, expected a key in double quotes'),
    ('{"model":"dynamic","minimum":NaN}', 'not valid JSON, expected a value'),
    ('{"model":"dynamic","minimum":Infinity}', 'not valid JSON, expected a value'),
    ('{"model":"dynamic","minimum":+1}', 'not valid JSON, expected a value'),
    ('{"model":"dynamic","minimum":.5}', 'not valid JSON, expected a value'),
    ('{"model":"dyn', 'not valid JSON, expected a closing quote'),
    (E'{"model":"dyn\namic"}', 'not valid JSON, expected a printable character'),
    (E'{"model":"dyn\x01amic"}', 'not valid JSON, expected a printable character'),
    ('{"model":"dyn\u0000amic"}', 'not valid JSON, expected a printable character'),
    ('{"model":"dyn\u001famic"}', 'not valid JSON, expected a printable character'),
    ('{"model":"dyn\namic"}', 'not valid JSON, expected an escape of a printable character (\", \\, \/ or \u)'),
    ('{"model":"dyn\', 'not valid JSON, expected an escape of a printable character (\", \\, \/ or \u)'),
    ('{"model":"\u12', 'not valid JSON, expected four hexadecimal digits after \u'),
    ('{"model":"\ud800"}', 'not valid JSON, expected the second half of a surrogate pair'),
    ('{"model":"\udc00"}', 'not valid JSON, expected the first half of a surrogate pair before the second'),
    ('{"model":"' || repeat('x', 256) || '"}', 'not valid JSON, expected a string of at most 255 bytes'),
    ('{"model":"dynamic","tiers":[1,]}', 'not valid JSON, expected a value'),
    ('{"model":"dynamic","tiers":[1 2]}', 'not valid JSON, expected a comma or a closing bracket'),
    -- too much of it
    (repeat('[', 100), 'not valid JSON, expected an opening brace'),
    ('{"a":' || repeat('[', 100) || repeat(']', 100) || '}', 'nested deeper than 8 levels'),
    (repeat('{"a":', 100) || '1' || repeat('}', 100), 'nested deeper than 8 levels'),
    (repeat('{"a":', 100000), 'nested deeper than 8 levels'),
    ('{"model":"dynamic"' || repeat(' ', 1048576) || '}', 'longer than 1048576 bytes'),
    ('{"model":"graduated","tiers":[' || repeat('{"up_to":1,"unit":1},', 10000) || '{"up_to":null,"unit":1}]}',
        'tiers has more than 1000 elements'),
    ((SELECT '{' || string_agg(format('"k%s":1', i), ',') || '}' FROM generate_series(1, 65) i),
        'the tariff has more than 64 keys'),
    -- keys
    ('{}', 'the tariff has no "model"'),
    ('{"unit":"1"}', 'the tariff has no "model"'),
    ('{"model":null}', 'model is not a string'),
    ('{"model":{}}', 'model is not a string'),
    ('{"model":""}', 'model is not a model'),
    ('{"model":"PER_UNIT","unit":"1"}', 'model is not a model'),
    ('{"model":"per_unit","model":"per_unit","unit":"1"}', 'model is given twice'),
    ('{"model":"per_unit","unit":"1","unit":"1"}', 'unit is given twice'),
    ('{"model":"per_unit","unit":"1","\u0075nit":"1"}', 'unit is given twice'),
    ('{"model":"per_unit"}', 'the tariff has no "unit"'),
    ('{"model":"per_unit","unit":"1","":"1"}', ' is not a key of model per_unit'),
    ('{"model":"per_unit","unit":"1","colour":"red"}', 'colour is not a key of model per_unit'),
    ('{"model":"per_unit","unit":"1","tiers":[]}', 'tiers is not a key of model per_unit'),
    ('{"model":"dynamic","unit":"1"}', 'unit is not a key of model dynamic'),
    ('{"model":"graduated","tiers":[{"up_to":null,"unit":"1","rate":"2"}]}', 'tiers[0].rate is not a key of a tier'),
    ('{"model":"stairstep","tiers":[{"up_to":null,"unit":"1"}]}', 'tiers[0].unit is not a key of a stairstep tier'),
    ('{"model":"graduated_percentage","tiers":[{"up_to":null,"unit":"1"}]}',
        'tiers[0].unit is not a key of a graduated_percentage tier'),
    ('{"model":"per_unit","unit":"1","' || repeat('k', 100) || '":1}', repeat('k', 40) || '... is not a key of model per_unit'),
    -- numbers
    ('{"model":"per_unit","unit":null}', 'unit is not a number'),
    ('{"model":"per_unit","unit":true}', 'unit is not a number'),
    ('{"model":"per_unit","unit":[]}', 'unit is not a number'),
    ('{"model":"per_unit","unit":{}}', 'unit is not a number'),
    ('{"model":"per_unit","unit":""}', 'unit is not a number'),
    ('{"model":"per_unit","unit":" 1"}', 'unit is not a number'),
    ('{"model":"per_unit","unit":"1 "}', 'unit is not a number'),
    ('{"model":"per_unit","unit":"1,5"}', 'unit is not a number'),
    ('{"model":"per_unit","unit":"0x10"}', 'unit is not a number'),
    ('{"model":"per_unit","unit":"NaN"}', 'unit is not a number'),
    ('{"model":"per_unit","unit":"-Infinity"}', 'unit is not a number'),
    ('{"model":"per_unit","unit":"1e"}', 'unit is not a number'),
    ('{"model":"per_unit","unit":"--1"}', 'unit is not a number'),
    ('{"model":"per_unit","unit":01}', 'unit is not a number'),
    ('{"model":"per_unit","unit":1.}', 'unit is not a number'),
    ('{"model":"per_unit","unit":1-1}', 'unit is not a number'),
    ('{"model":"per_unit","unit":' || repeat('9', 1000) || '}', 'unit is longer than 64 characters'),
    ('{"model":"per_unit","unit":0.' || repeat('0', 1000) || '}', 'unit is longer than 64 characters'),
    ('{"model":"per_unit","unit":0.0000000000001}', 'unit has more than 12 decimals'),
    ('{"model":"per_unit","unit":1.2345678901234567890123}', 'unit has more than 12 decimals'),
    ('{"model":"per_unit","unit":1e-13}', 'unit has more than 12 decimals'),
    ('{"model":"per_unit","unit":1e-9999999999999999999}', 'unit has more than 12 decimals'),
    ('{"model":"per_unit","unit":1e18}', 'unit has more than 18 digits'),
    ('{"model":"per_unit","unit":-1000000000000000000}', 'unit has more than 18 digits'),
    ('{"model":"per_unit","unit":12345678901.12345678}', 'unit has more than 18 digits'),
    ('{"model":"per_unit","unit":1e9999999999999999999}', 'unit has more than 18 digits'),
    -- tiers
    ('{"model":"graduated"}', 'the tariff has no "tiers"'),
    ('{"model":"graduated","tiers":null}', 'tiers is not an array'),
    ('{"model":"graduated","tiers":{}}', 'tiers is not an array'),
    ('{"model":"graduated","tiers":[]}', 'tiers is empty'),
    ('{"model":"graduated","tiers":[5]}', 'tiers[0] is not an object'),
    ('{"model":"graduated","tiers":[null]}', 'tiers[0] is not an object'),
    ('{"model":"graduated","tiers":[{}]}', 'tiers[0] has no "up_to"'),
    ('{"model":"graduated","tiers":[{"unit":1}]}', 'tiers[0] has no "up_to"'),
    ('{"model":"graduated","tiers":[{"up_to":null}]}', 'tiers[0] has no "unit"'),
    ('{"model":"graduated","tiers":[{"up_to":null,"block":5}]}', 'tiers[0] has no "unit"'),
    ('{"model":"graduated","tiers":[{"up_to":null,"unit":1,"block":0}]}', 'tiers[0].block is zero'),
    ('{"model":"graduated","tiers":[{"up_to":null,"unit":1,"block":-5}]}', 'tiers[0].block is negative'),
    ('{"model":"graduated","tiers":[{"up_to":null,"unit":1,"flat":null}]}', 'tiers[0].flat is not a number'),
    ('{"model":"graduated","tiers":[{"up_to":10,"unit":1}]}', 'tiers[0].up_to is not null in the last tier'),
    ('{"model":"graduated","tiers":[{"up_to":null,"unit":1},{"up_to":null,"unit":1}]}',
        'tiers[0].up_to is null, but more tiers follow'),
    ('{"model":"volume","tiers":[{"up_to":20,"unit":1},{"up_to":10,"unit":1},{"up_to":null,"unit":1}]}',
        'tiers[1].up_to is not above the bound before it, 20'),
    ('{"model":"volume","tiers":[{"up_to":10,"unit":1},{"up_to":10.0,"unit":1},{"up_to":null,"unit":1}]}',
        'tiers[1].up_to is not above the bound before it, 10'),
    ('{"model":"volume","tiers":[{"up_to":0,"unit":1},{"up_to":null,"unit":1}]}', 'tiers[0].up_to is zero'),
    ('{"model":"volume","tiers":[{"up_to":-1,"unit":1},{"up_to":null,"unit":1}]}', 'tiers[0].up_to is negative'),
    ('{"model":"volume","tiers":[{"up_to":1e18,"unit":1},{"up_to":null,"unit":1}]}', 'tiers[0].up_to has more than 18 digits'),
    ('{"model":"stairstep","tiers":[{"up_to":null}]}', 'tiers[0] has no "flat"'),
    ('{"model":"graduated_percentage","tiers":[{"up_to":null}]}', 'tiers[0] has no "rate"'),
    -- packages and percentages
    ('{"model":"package","package_price":"5"}', 'the tariff has no "package_size"'),
    ('{"model":"package","package_size":100}', 'the tariff has no "package_price"'),
    ('{"model":"package","package_size":0,"package_price":"5"}', 'package_size is zero'),
    ('{"model":"package","package_size":-1,"package_price":"5"}', 'package_size is negative'),
    ('{"model":"percentage"}', 'the tariff has no "rate"'),
    ('{"model":"percentage","rate":"2","event_min":"3","event_max":"2.99"}', 'event_min is above event_max, 2.99'),
    ('{"model":"percentage","rate":"2","event_min":"-1"}', 'event_min is negative'),
    -- modifiers
    ('{"model":"dynamic","minimum":"10","maximum":"9.99"}', 'minimum is above maximum, 9.99'),
    ('{"model":"dynamic","minimum":"-1"}', 'minimum is negative'),
    ('{"model":"dynamic","maximum":"-1"}', 'maximum is negative'),
    ('{"model":"dynamic","free_units":-1}', 'free_units is negative'),
    ('{"model":"dynamic","free_amount":"-1"}', 'free_amount is negative'),
    ('{"model":"dynamic","free_amount":"1 EUR"}', 'free_amount is not a number'),
    ('{"model":"percentage","rate":"2","fixed":"1","free_events":1.5}', 'free_events is not a whole number'),
    ('{"model":"percentage","rate":"2","fixed":"1","free_events":-1}', 'free_events is negative'),
    ('{"model":"percentage","rate":"2","free_events":1}', 'free_events frees nothing, for no price is per event'),
    ('{"model":"per_unit","unit":"2","free_events":1}', 'free_events frees nothing, for no price is per event'),
    ('{"model":"dynamic","zero_usage":null}', 'zero_usage is not a string'),
    ('{"model":"dynamic","zero_usage":"free"}', 'zero_usage is not a way to price zero usage'),
    ('{"model":"per_unit","unit":1,"zero_usage":"first_tier"}', 'zero_usage does not go with this model'),
    ('{"model":"graduated","zero_usage":"one_package","tiers":[{"up_to":null,"unit":1}]}',
        'zero_usage does not go with this model'),
    -- matrix
    ('{"model":"matrix","cells":[]}', 'the tariff has no "dimensions"'),
    ('{"model":"matrix","dimensions":["a"]}', 'the tariff has no "cells"'),
    ('{"model":"matrix","dimensions":"a","cells":[]}', 'dimensions is not an array'),
    ('{"model":"matrix","dimensions":[],"cells":[]}', 'dimensions is empty'),
    ('{"model":"matrix","dimensions":["a"],"cells":[]}', 'cells is empty'),
    ('{"model":"matrix","dimensions":["a","a"],"cells":[]}', 'dimensions[1] is given twice'),
    ('{"model":"matrix","dimensions":[""],"cells":[]}', 'dimensions[0] is empty'),
    ('{"model":"matrix","dimensions":[" a"],"cells":[]}', 'dimensions[0] begins or ends with a space'),
    ('{"model":"matrix","dimensions":[1],"cells":[]}', 'dimensions[0] is not a string'),
    ('{"model":"matrix","dimensions":["a","b","c","d","e","f","g","h","i","j","k","l","m","n","o","p","q"],"cells":[]}',
        'dimensions has more than 16 elements'),
    ('{"model":"matrix","dimensions":["a"],"cells":[1]}', 'cells[0] is not an object'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{}]}', 'cells[0] has no "match"'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":[]}]}', 'cells[0].match is not an object'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{}}]}', 'cells[0].match is empty'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"b":"1"}}]}', 'cells[0].match.b is not a key of dimensions'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"a":1}}]}', 'cells[0].match.a is not a string'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"a":""}}]}', 'cells[0].match.a is empty'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"a":"1"}}]}', 'cells[0] has no "tariff"'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"a":"1"},"tariff":"x"}]}', 'cells[0].tariff is not an object'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"a":"1"},"tariff":{"model":"per_unit"}}]}',
        'cells[0].tariff has no "unit"'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"a":"1"},"tariff":{"model":"graduated","tiers":[{"up_to":1,"unit":"x"}]}}]}',
        'cells[0].tariff.tiers[0].up_to is not null in the last tier'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"a":"1"},"tariff":{"model":"matrix"}}]}',
        'cells[0].tariff.model is a matrix inside a matrix'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"a":"1"},"tariff":{"model":"dynamic"}}],"default":{"model":"matrix"}}',
        'default.model is a matrix inside a matrix'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"a":"1"},"tariff":{"model":"dynamic"}}],"default":null}',
        'default is not an object'),
    ('{"model":"matrix","dimensions":["a"],"cells":[{"match":{"a":"1"},"tariff":{"model":"dynamic"}},{"match":{"a":"1"},"tariff":{"model":"dynamic"}}]}',
        'cells[1].match can never be reached, for cells[0] matches all that it matches'),
    ('{"model":"matrix","dimensions":["a","b"],"cells":[{"match":{"a":"1"},"tariff":{"model":"dynamic"}},{"match":{"a":"1","b":"2"},"tariff":{"model":"dynamic"}}]}',
        'cells[1].match can never be reached, for cells[0] matches all that it matches');

SELECT throws_ok(
    format('SELECT %L::billing.tariff', tariff), 'ZB005', 'invalid tariff: ' || message,
    coalesce(nullif(message, ''), 'empty') || ': ' || left(regexp_replace(tariff, '[^ -~]', '?', 'g'), 60)
)
FROM malformed ORDER BY id;

-- The same through jsonb, and what jsonb makes worse
SELECT throws_ok($$SELECT '{"model":"per_unit","unit":"1","colour":"red"}'::jsonb::billing.tariff$$, 'ZB005',
    'invalid tariff: colour is not a key of model per_unit', 'jsonb is validated like text');
SELECT throws_ok($$SELECT 'null'::jsonb::billing.tariff$$, 'ZB005', NULL, 'jsonb null is no tariff');
SELECT throws_ok($$SELECT '[1, 2]'::jsonb::billing.tariff$$, 'ZB005', NULL, 'a jsonb array is no tariff');
SELECT throws_ok($$SELECT jsonb_build_object('model', 'per_unit', 'unit', 1e1000)::billing.tariff$$, 'ZB005',
    'invalid tariff: unit is longer than 64 characters', 'a jsonb number of 1000 digits');
SELECT throws_ok($$SELECT jsonb_build_object('model', 'graduated', 'tiers', (SELECT jsonb_agg(1e131000) FROM generate_series(1,
    12)))::billing.tariff$$, 'ZB005', 'invalid tariff: longer than 1048576 bytes', 'jsonb numbers that would fill the memory');
SELECT throws_ok($$SELECT (repeat('{"a":', 1000) || '1' || repeat('}', 1000))::jsonb::billing.tariff$$, 'ZB005',
    'invalid tariff: nested deeper than 8 levels', 'deep jsonb');

-- Every refusal has a detail and a hint
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN CASE WHEN detail ~ '\.$' AND hint ~ '\.$' THEN 'explained' ELSE SQLERRM END;
END $$;
SELECT is_empty(
    $$SELECT tariff FROM malformed WHERE pg_temp.refusal(format('SELECT %L::billing.tariff', tariff)) <> 'explained'$$,
    'every refusal has a detail and a hint'
);
SELECT is(pg_temp.refusal($$SELECT billing.rate('{"model":"dynamic"}', 'NaN')$$), 'explained', 'so has a quantity''s');

-- Quantities that no tariff can rate: statement, code, message
SELECT throws_ok(statement, state, message, regexp_replace(statement, '\s+', ' ', 'g'))
FROM (VALUES
    ($$SELECT billing.rate('{"model":"dynamic"}', 'NaN')$$, 'ZB001', 'quantity is not a finite number'),
    ($$SELECT billing.rate('{"model":"dynamic"}', 'Infinity')$$, 'ZB001', 'quantity is not a finite number'),
    ($$SELECT billing.rate('{"model":"dynamic"}', '-Infinity')$$, 'ZB001', 'quantity is not a finite number'),
    ($$SELECT * FROM billing.rate_breakdown('{"model":"dynamic"}', 'NaN')$$, 'ZB001', 'quantity is not a finite number'),
    ($$SELECT billing.rate('{"model":"dynamic"}', 1e100000)$$, 'ZB012', 'quantity has too many digits'),
    ($$SELECT billing.rate('{"model":"dynamic"}', -1e131000)$$, 'ZB012', 'quantity has too many digits'),
    ($$SELECT billing.rate('{"model":"dynamic"}', 1e-16001)$$, 'ZB012', 'quantity has too many digits'),
    ($$SELECT billing.rate('{"model":"dynamic"}', 1, -1)$$, 'ZB001', 'events is negative'),
    ($$SELECT billing.rate('{"model":"graduated","tiers":[{"up_to":null,"unit":1}]}', -0.001)$$, 'ZB006',
        'a graduated tariff has no amount for a negative quantity'),
    ($$SELECT billing.rate('{"model":"volume","tiers":[{"up_to":null,"unit":1}]}', -1)$$, 'ZB006',
        'a volume tariff has no amount for a negative quantity'),
    ($$SELECT billing.rate('{"model":"stairstep","tiers":[{"up_to":null,"flat":1}]}', -1e30)$$, 'ZB006',
        'a stairstep tariff has no amount for a negative quantity'),
    ($$SELECT billing.rate('{"model":"package","package_size":1,"package_price":1}', -1)$$, 'ZB006',
        'a package tariff has no amount for a negative quantity'),
    ($$SELECT billing.rate('{"model":"graduated_percentage","tiers":[{"up_to":null,"rate":1}]}', -1)$$, 'ZB006',
        'a graduated_percentage tariff has no amount for a negative quantity'),
    ($$SELECT billing.rate('{"model":"percentage","rate":1,"event_min":1}', -1)$$, 'ZB006',
        'a percentage tariff with event_min or event_max has no amount for a negative quantity'),
    ($$SELECT billing.rate('{"model":"percentage","rate":1,"event_max":1}', 10, 2)$$, 'ZB006',
        'event_min and event_max bound one event, but this is the sum of 2'),
    ($$SELECT billing.rate('{"model":"percentage","rate":1,"event_max":1}', 10, 0)$$, 'ZB006',
        'event_min and event_max bound one event, but this is the sum of 0'),
    ($$SELECT billing.rate('{"model":"matrix","dimensions":["zone"],"cells":[{"match":{"zone":"1"},"tariff":{"model":"dynamic"}}]}', 1)$$,
        'ZB006', 'no cell of the matrix tariff matches: dimension "zone" is not given'),
    ($$SELECT billing.rate('{"model":"matrix","dimensions":["zone"],"cells":[{"match":{"zone":"1"},"tariff":{"model":"dynamic"}}]}', 1,
        '{"zone":"2"}'::jsonb)$$, 'ZB006', 'no cell of the matrix tariff matches: dimension "zone" is "2"'),
    ($$SELECT billing.rate('{"model":"matrix","dimensions":["zone"],"cells":[{"match":{"zone":"1"},"tariff":{"model":"dynamic"}}]}', 1,
        '{"zone":["1"]}'::jsonb)$$, 'ZB001', 'dimension "zone" is not a single value'),
    ($$SELECT billing.rate('{"model":"matrix","dimensions":["zone"],"cells":[{"match":{"zone":"1"},"tariff":{"model":"dynamic"}}]}', 1,
        '["zone"]'::jsonb)$$, 'ZB001', 'dimensions are not a JSON object'),
    ($$SELECT billing.rate_events('{"model":"dynamic"}', q) FROM (VALUES ('NaN'::numeric), (1)) v (q)$$, 'ZB001',
        'quantity is not a finite number'),
    ($$SELECT billing.rate_events('{"model":"percentage","rate":1,"event_min":1,"free_units":9}', -1)$$, 'ZB006',
        'a percentage tariff with event_min or event_max has no amount for a negative quantity'),
    ($$SELECT billing.rate_events(t::billing.tariff, 1) FROM (VALUES ('{"model":"dynamic"}'), ('{"model":"dynamic","minimum":1}')) v (t)$$,
        'ZB001', 'events of one group have different tariffs'),
    ($$SELECT billing.rate_events(NULL, 1)$$, 'ZB001', 'tariff is null')
) e (statement, state, message);

-- At the limits, nothing is refused
SELECT lives_ok(statement, 'accepted: ' || left(statement, 80))
FROM (VALUES
    (format('SELECT billing.rate(%L, 1000.5)', (SELECT '{"model":"graduated","tiers":[' || string_agg(format(
        '{"up_to":%s,"unit":1}', coalesce(nullif(i, 1000)::text, 'null')), ',' ORDER BY i) || ']}' FROM generate_series(1, 1000) i))),
    ($$SELECT billing.rate('{"model":"per_unit","unit":"0.999999999999"}', 1e99999)$$),
    ($$SELECT billing.rate('{"model":"per_unit","unit":"0.999999999999"}', 1e-16000)$$),
    ($$SELECT billing.rate('{"model":"package","package_size":0.000000000001,"package_price":"999999999999999999"}', 1e99999)$$),
    ($$SELECT billing.rate('{"model":"percentage","rate":"1","fixed":"999999999999999999"}', 1, 9223372036854775807)$$),
    (format('SELECT %L::billing.tariff::text::billing.tariff', (SELECT '{"model":"matrix","dimensions":["n"],"cells":[' || string_agg(
        format('{"match":{"n":"%s"},"tariff":{"model":"per_unit","unit":%s}}', i, i), ',') || ']}' FROM generate_series(1, 1000) i)))
) s (statement);

SELECT * FROM finish();
ROLLBACK;
