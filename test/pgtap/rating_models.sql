-- What each model and modifier makes of a quantity, at its bounds and beyond; amounts worked out by hand.
BEGIN;
SET LOCAL search_path = public;
SELECT plan(176);

CREATE TEMP TABLE price (name text PRIMARY KEY, tariff billing.tariff);
INSERT INTO price VALUES
    ('per_unit', '{"model": "per_unit", "unit": "0.05"}'),
    ('rebate', '{"model": "per_unit", "unit": "-0.5"}'),
    ('graduated', '{"model": "graduated", "tiers": [
        {"up_to": 10, "unit": "1", "flat": "5"},
        {"up_to": 20, "unit": "0.5", "flat": "3"},
        {"up_to": null, "unit": "0.1", "flat": "1"}]}'),
    ('graduated, first tier at zero', '{"model": "graduated", "zero_usage": "first_tier", "tiers": [
        {"up_to": 10, "unit": "1", "flat": "5"}, {"up_to": null, "unit": "0.1"}]}'),
    ('graduated, fractional bound', '{"model": "graduated", "tiers": [
        {"up_to": 0.5, "unit": "10"}, {"up_to": null, "unit": "1"}]}'),
    ('graduated, blocks', '{"model": "graduated", "tiers": [
        {"up_to": 1000, "block": 100, "unit": "1"}, {"up_to": null, "block": 1000, "unit": "5"}]}'),
    ('graduated, rebate tier', '{"model": "graduated", "tiers": [
        {"up_to": 100, "unit": "2"}, {"up_to": null, "unit": "-0.25"}]}'),
    ('graduated, one tier', '{"model": "graduated", "tiers": [{"up_to": null, "unit": "3", "flat": "7"}]}'),
    ('graduated, prices far apart', '{"model": "graduated", "tiers": [
        {"up_to": 1, "unit": "0.000000000001"}, {"up_to": null, "unit": "123456789012345678"}]}'),
    ('volume', '{"model": "volume", "tiers": [
        {"up_to": 10, "unit": "1", "flat": "5"},
        {"up_to": 20, "unit": "0.5", "flat": "3"},
        {"up_to": null, "unit": "0.1", "flat": "1"}]}'),
    ('volume, blocks', '{"model": "volume", "tiers": [
        {"up_to": 24, "block": 12, "unit": "4"}, {"up_to": null, "block": 12, "unit": "3"}]}'),
    ('stairstep', '{"model": "stairstep", "tiers": [
        {"up_to": 5, "flat": "100"}, {"up_to": 10, "flat": "180"}, {"up_to": null, "flat": "250"}]}'),
    ('stairstep, first tier at zero', '{"model": "stairstep", "zero_usage": "first_tier", "free_units": 10, "tiers": [
        {"up_to": 5, "flat": "100"}, {"up_to": null, "flat": "250"}]}'),
    ('package', '{"model": "package", "package_size": 100, "package_price": "5"}'),
    ('package, one at zero', '{"model": "package", "package_size": 100, "package_price": "5", "zero_usage": "one_package"}'),
    ('package, half', '{"model": "package", "package_size": 0.5, "package_price": "2"}'),
    ('percentage', '{"model": "percentage", "rate": "2.9", "fixed": "0.30"}'),
    ('percentage, bounds', '{"model": "percentage", "rate": "2.9", "fixed": "0.30", "event_min": "1.75", "event_max": "12"}'),
    ('percentage, free events', '{"model": "percentage", "rate": "1", "fixed": "0.5", "free_events": 2}'),
    ('percentage, free and bounded', '{"model": "percentage", "rate": "1", "fixed": "0.5", "free_events": 1, "event_min": "3"}'),
    ('graduated_percentage', '{"model": "graduated_percentage", "tiers": [
        {"up_to": 1000, "rate": "1", "flat": "200"}, {"up_to": null, "rate": "0.5"}]}'),
    ('dynamic', '{"model": "dynamic"}'),
    ('free units', '{"model": "per_unit", "unit": "2", "free_units": 10}'),
    ('free units, graduated', '{"model": "graduated", "free_units": 100, "tiers": [
        {"up_to": 1000, "unit": "0.10", "flat": "2"}, {"up_to": null, "unit": "0.01"}]}'),
    ('free amount', '{"model": "per_unit", "unit": "1", "free_amount": "5"}'),
    ('minimum', '{"model": "per_unit", "unit": "1", "minimum": "10"}'),
    ('maximum', '{"model": "per_unit", "unit": "1", "maximum": "10"}'),
    ('maximum of zero', '{"model": "per_unit", "unit": "1", "maximum": "0"}'),
    ('all limits', '{"model": "per_unit", "unit": "2", "free_units": 5, "free_amount": "3", "minimum": "4", "maximum": "20"}'),
    ('largest price', '{"model": "per_unit", "unit": "999999999999999999"}'),
    ('smallest price', '{"model": "per_unit", "unit": "0.000000000001"}'),
    ('matrix', '{"model": "matrix", "dimensions": ["region", "size"], "minimum": "4", "cells": [
        {"match": {"region": "eu", "size": "xl"}, "tariff": {"model": "per_unit", "unit": "3"}},
        {"match": {"region": "eu"}, "tariff": {"model": "package", "package_size": 10, "package_price": "1"}},
        {"match": {"size": "7"}, "tariff": {"model": "per_unit", "unit": "7", "free_units": 1}}],
        "default": {"model": "per_unit", "unit": "1"}}'),
    ('events in a matrix', '{"model": "matrix", "dimensions": ["scheme"], "cells": [
        {"match": {"scheme": "card"}, "tariff": {"model": "percentage", "rate": "1", "fixed": "0.25"}}]}');

CREATE TEMP TABLE case_of (id serial, name text REFERENCES price, quantity numeric, events bigint, amount numeric);
INSERT INTO case_of (name, quantity, events, amount) VALUES
    ('per_unit', 0, NULL, 0),
    ('per_unit', 1, NULL, 0.05),
    ('per_unit', 20, NULL, 1),
    ('per_unit', 0.001, NULL, 0.00005),
    ('per_unit', -3, NULL, -0.15),
    ('per_unit', 3, 1000, 0.15),
    ('per_unit', 1e30, NULL, 5e28),
    ('per_unit', -1e30, NULL, -5e28),
    ('per_unit', 1e-20, NULL, 5e-22),
    ('per_unit', 123456789012345678901234567890.123456789, NULL, 6172839450617283945061728394.50617283945),
    ('rebate', 4, NULL, -2),
    ('rebate', -4, NULL, 2),
    ('graduated', 0, NULL, 0),
    ('graduated', 0.1, NULL, 5.1),
    ('graduated', 9.999, NULL, 14.999),
    ('graduated', 10, NULL, 15),
    ('graduated', 10.000000000000000000001, NULL, 18.0000000000000000000005),
    ('graduated', 10.5, NULL, 18.25),
    ('graduated', 11, NULL, 18.5),
    ('graduated', 20, NULL, 23),
    ('graduated', 21, NULL, 24.1),
    ('graduated', 100, NULL, 32),
    ('graduated', 1e30, NULL, 99999999999999999999999999998 + 24),
    ('graduated, first tier at zero', 0, NULL, 5),
    ('graduated, first tier at zero', 1, NULL, 6),
    ('graduated, fractional bound', 0.5, NULL, 5),
    ('graduated, fractional bound', 0.75, NULL, 5.25),
    ('graduated, fractional bound', 2, NULL, 6.5),
    ('graduated, blocks', 1, NULL, 1),
    ('graduated, blocks', 100, NULL, 1),
    ('graduated, blocks', 100.001, NULL, 2),
    ('graduated, blocks', 101, NULL, 2),
    ('graduated, blocks', 1000, NULL, 10),
    ('graduated, blocks', 1001, NULL, 15),
    ('graduated, blocks', 2000, NULL, 15),
    ('graduated, blocks', 2500, NULL, 20),
    ('graduated, rebate tier', 100, NULL, 200),
    ('graduated, rebate tier', 110, NULL, 197.5),
    ('graduated, rebate tier', 1000, NULL, -25),
    ('graduated, one tier', 2, NULL, 13),
    ('graduated, prices far apart', 1, NULL, 0.000000000001),
    ('graduated, prices far apart', 2, NULL, 123456789012345678.000000000001),
    ('volume', 0, NULL, 0),
    ('volume', 10, NULL, 15),
    ('volume', 10.5, NULL, 8.25),
    ('volume', 20, NULL, 13),
    ('volume', 21, NULL, 3.1),
    ('volume, blocks', 1, NULL, 4),
    ('volume, blocks', 24, NULL, 8),
    ('volume, blocks', 25, NULL, 9),
    ('stairstep', 0, NULL, 0),
    ('stairstep', 0.1, NULL, 100),
    ('stairstep', 5, NULL, 100),
    ('stairstep', 5.5, NULL, 180),
    ('stairstep', 10, NULL, 180),
    ('stairstep', 11, NULL, 250),
    ('stairstep', 1e40, NULL, 250),
    ('stairstep, first tier at zero', 0, NULL, 100),
    ('stairstep, first tier at zero', 10, NULL, 100),
    ('stairstep, first tier at zero', 15, NULL, 100),
    ('stairstep, first tier at zero', 15.5, NULL, 250),
    ('package', 0, NULL, 0),
    ('package', 0.01, NULL, 5),
    ('package', 100, NULL, 5),
    ('package', 100.01, NULL, 10),
    ('package', 250, NULL, 15),
    ('package', 1e30, NULL, 5e28),
    ('package', 1e30 + 1, NULL, 5e28 + 5),
    ('package, one at zero', 0, NULL, 5),
    ('package, one at zero', 101, NULL, 10),
    ('package, half', 1.2, NULL, 6),
    ('percentage', 0, NULL, 0),
    ('percentage', 0, 3, 0.9),
    ('percentage', 100, NULL, 3.2),
    ('percentage', 100, 1, 3.2),
    ('percentage', 100, 0, 2.9),
    ('percentage', 1000, 5, 30.5),
    ('percentage', -100, 1, -2.6),
    ('percentage, bounds', 0, NULL, 0),
    ('percentage, bounds', 0, 1, 1.75),
    ('percentage, bounds', 10, NULL, 1.75),
    ('percentage, bounds', 50, NULL, 1.75),
    ('percentage, bounds', 100, NULL, 3.2),
    ('percentage, bounds', 1000, NULL, 12),
    ('percentage, free events', 100, 5, 2.5),
    ('percentage, free events', 100, 2, 1),
    ('percentage, free events', 100, 1, 1),
    ('percentage, free and bounded', 100, 1, 1),
    ('graduated_percentage', 1, NULL, 200.01),
    ('graduated_percentage', 1000, NULL, 210),
    ('graduated_percentage', 3000, NULL, 220),
    ('dynamic', 12.34, 3, 12.34),
    ('dynamic', -5, NULL, -5),
    ('dynamic', 0, NULL, 0),
    ('free units', 5, NULL, 0),
    ('free units', 10, NULL, 0),
    ('free units', 12.5, NULL, 5),
    ('free units', -3, NULL, -6),
    ('free units, graduated', 100, NULL, 0),
    ('free units, graduated', 1100, NULL, 102),
    ('free units, graduated', 1200, NULL, 103),
    ('free amount', 3, NULL, 0),
    ('free amount', 8, NULL, 3),
    ('free amount', -3, NULL, -3),
    ('minimum', 0, NULL, 10),
    ('minimum', 3, NULL, 10),
    ('minimum', 20, NULL, 20),
    ('minimum', -5, NULL, 10),
    ('maximum', 3, NULL, 3),
    ('maximum', 20, NULL, 10),
    ('maximum', -20, NULL, -20),
    ('maximum of zero', 7, NULL, 0),
    ('all limits', 5, NULL, 4),
    ('all limits', 8, NULL, 4),
    ('all limits', 10, NULL, 7),
    ('all limits', 100, NULL, 20),
    ('largest price', 999999999999999999, NULL, 999999999999999998000000000000000001),
    ('largest price', -999999999999999999, NULL, -999999999999999998000000000000000001),
    ('smallest price', 0.000000000000000001, NULL, 1e-30),
    ('matrix', 10, NULL, 10),
    ('matrix', 2, NULL, 4);

SELECT is(
    billing.rate(tariff, quantity, events), amount,
    format('%s: %s, %s events', name, quantity, coalesce(events::text, 'default'))
)
FROM case_of JOIN price USING (name)
ORDER BY case_of.id;

SELECT is_empty(
    $$SELECT name, quantity FROM case_of JOIN price USING (name)
    WHERE billing_internal.rate_exact(tariff, quantity, events) IS DISTINCT FROM amount$$,
    'rate_exact() gives all these amounts too'
);
SELECT is_empty(
    $$SELECT name, quantity FROM case_of JOIN price USING (name)
    WHERE (SELECT sum(amount) FROM billing.rate_breakdown(tariff, quantity, events)) IS DISTINCT FROM amount$$,
    'rate_breakdown() sums to all these amounts'
);

-- Dimensions: the first cell that matches, a dimension that is missing matches only cells that do not name it
SELECT is(billing.rate(tariff, quantity, dimensions::jsonb), amount::numeric, format('matrix: %s of %s', quantity, dimensions))
FROM price, (VALUES
    (2, '{"region": "eu", "size": "xl"}', 6),
    (2, '{"size": "xl", "region": "eu", "colour": "red"}', 6),
    (11, '{"region": "eu", "size": "s"}', 4),
    (41, '{"region": "eu"}', 5),
    (2, '{"region": "us", "size": "7"}', 7),
    (2, '{"size": 7}', 7),
    (2, '{"size": 7.0}', 7),
    (6, '{"size": "77"}', 6),
    (6, '{"size": "xl"}', 6),
    (6, '{"size": true, "region": null}', 6),
    (6, '{}', 6),
    (6, NULL, 6)
) d (quantity, dimensions, amount)
WHERE name = 'matrix';
SELECT is(billing.rate(tariff, 100, '{"scheme": "card"}'::jsonb, 4), 2.0, 'events reach the cell of a matrix')
FROM price WHERE name = 'events in a matrix';
SELECT is(billing.rate(tariff, 1, '{"region": "eu"}'::jsonb), 0.05, 'dimensions mean nothing to other models')
FROM price WHERE name = 'per_unit';

-- Nulls
SELECT is(billing.rate(NULL, 1), NULL::numeric, 'no tariff, no amount');
SELECT is(billing.rate(tariff, NULL), NULL::numeric, 'no quantity, no amount') FROM price WHERE name = 'per_unit';
SELECT is_empty('SELECT * FROM billing.rate_breakdown(NULL, 1)', 'no tariff, no steps');

-- Breakdown
PREPARE steps (text, numeric, bigint) AS
SELECT s.tier, s.from_quantity, s.up_to, s.quantity_rated, s.unit_price, s.flat, s.amount, s.note
FROM price, billing.rate_breakdown(tariff, $2, $3) s WHERE name = $1;
SELECT results_eq(
    $$EXECUTE steps('graduated', 25, NULL)$$,
    $$VALUES (1, 0::numeric, 10::numeric, 10::numeric, 1::numeric, 5::numeric, 15::numeric, NULL),
        (2, 10, 20, 10, 0.5, 3, 8, NULL), (3, 20, NULL, 5, 0.1, 1, 1.5, NULL)$$,
    'graduated: a row for every tier that is entered'
);
SELECT results_eq(
    $$EXECUTE steps('volume', 15, NULL)$$,
    $$VALUES (2, 10::numeric, 20::numeric, 15::numeric, 0.5::numeric, 3::numeric, 10.5::numeric, NULL)$$,
    'volume: the tier that holds the quantity'
);
SELECT results_eq(
    $$EXECUTE steps('stairstep', 7, NULL)$$,
    $$VALUES (2, 5::numeric, 10::numeric, 7::numeric, NULL::numeric, 180::numeric, 180::numeric, NULL)$$,
    'stairstep: its flat, no unit price'
);
SELECT results_eq(
    $$EXECUTE steps('graduated, blocks', 1100, NULL)$$,
    $$VALUES (1, 0::numeric, 1000::numeric, 1000::numeric, 1::numeric, 0::numeric, 10::numeric,
        'started blocks of 100: 10'), (2, 1000, NULL, 100, 5, 0, 5, 'started blocks of 1000: 1')$$,
    'blocks are counted in each tier'
);
SELECT results_eq(
    $$EXECUTE steps('percentage, free events', 100, 5)$$,
    $$VALUES (1, 0::numeric, NULL::numeric, 100::numeric, 0.01::numeric, 0::numeric, 1::numeric, NULL),
        (NULL, NULL, NULL, 3, 0.5, NULL, 1.5, 'fixed per event, 2 free')$$,
    'percentage: the rate, then the events'
);
SELECT results_eq(
    $$EXECUTE steps('percentage, bounds', 1000, 1)$$,
    $$VALUES (1, 0::numeric, NULL::numeric, 1000::numeric, 0.029::numeric, 0::numeric, 29::numeric, NULL),
        (NULL, NULL, NULL, 1, 0.3, NULL, 0.3, 'fixed per event'), (NULL, NULL, NULL, NULL, NULL, NULL, -17.3, 'event_max')$$,
    'percentage: the bound is a step of its own'
);
SELECT results_eq(
    $$EXECUTE steps('all limits', 100, NULL)$$,
    $$VALUES (NULL::int, NULL::numeric, NULL::numeric, 5::numeric, 0::numeric, NULL::numeric, 0::numeric, 'free units'),
        (1, 0, NULL, 95, 2, 0, 190, NULL), (NULL, NULL, NULL, NULL, NULL, NULL, -3, 'free_amount'),
        (NULL, NULL, NULL, NULL, NULL, NULL, -167, 'maximum')$$,
    'modifiers are steps, in their order'
);
SELECT results_eq(
    $$EXECUTE steps('minimum', 0, NULL)$$,
    $$VALUES (NULL::int, NULL::numeric, NULL::numeric, 0::numeric, NULL::numeric, NULL::numeric, 0::numeric, 'no usage'),
        (NULL, NULL, NULL, NULL, NULL, NULL, 10, 'minimum')$$,
    'a minimum is charged without usage'
);
SELECT results_eq(
    $$SELECT s.tier, s.quantity_rated, s.amount, s.note FROM price, billing.rate_breakdown(tariff, 1,
        '{"region": "eu", "size": "xl"}'::jsonb) s WHERE name = 'matrix'$$,
    $$VALUES (1, 1::numeric, 3::numeric, NULL), (NULL, NULL, 1, 'minimum')$$,
    'a matrix shows the steps of its cell, then its own'
);

-- Events one by one
SELECT is(billing.rate_events(tariff, q), amount::numeric, format('events of %s: %s', e.name, quantities))
FROM (VALUES
    ('percentage, bounds', '{10,100,1000}'::numeric[], 16.95),
    ('percentage, bounds', '{0}', 1.75),
    ('percentage, free and bounded', '{100,100}', 4),
    ('percentage', '{10,20,30}', 2.64),
    ('all limits', '{4,6}', 7),
    ('graduated', '{5,5,1}', 18.5),
    ('matrix', '{1,2,4}', 7)
) e (name, quantities, amount), price p, unnest(quantities) q
WHERE p.name = e.name
GROUP BY e.name, quantities, amount;
SELECT is(
    billing.rate_events('{"model": "percentage", "rate": "10", "event_min": "1", "free_units": 15, "minimum": "4.5"}', q
        ORDER BY n), 4.5, 'free units come off the first events, limits hold for the period: 1 + 1 + 1 becomes 4.5'
)
FROM (VALUES (1, 10::numeric), (2, 10), (3, NULL), (4, 2)) e (n, q);
SELECT is(
    billing.rate_events('{"model": "percentage", "rate": "10", "event_max": "3", "free_units": 15, "free_amount": "1"}', q
        ORDER BY n), 2.5, 'free units come off the first events, limits hold for the period: 0 + 0.5 + 3 - 1'
)
FROM (VALUES (1, 10::numeric), (2, 10), (3, 100)) e (n, q);
SELECT is(billing.rate_events(tariff, 1), NULL::numeric, 'no events, no amount') FROM price WHERE false;

-- The type: canonical text, equality, hash, casts, storage
SELECT is(t::billing.tariff::text, canonical, 'canonical: ' || t)
FROM (VALUES
    ('{"unit":0.0500,"model":"per_unit"}', '{"model": "per_unit", "unit": "0.05"}'),
    (' { "model" : "per_unit" , "unit" : "5E-2" , "free_units" : 0 , "zero_usage" : "none" } ',
        '{"model": "per_unit", "unit": "0.05"}'),
    ('{"model":"volume","minimum":0,"tiers":[{"flat":0,"unit":"1.50","up_to":"1e3"},{"up_to":null,"flat":-2.0}]}',
        '{"model": "volume", "tiers": [{"up_to": 1000, "unit": "1.5"}, {"up_to": null, "flat": "-2"}], "minimum": "0"}'),
    ('{"model":"percentage","rate":2.90,"event_max":12,"fixed":"0.0"}',
        '{"model": "percentage", "rate": "2.9", "event_max": "12"}'),
    ('{"model":"package","package_price":"1.0","package_size":"0.50","zero_usage":"one_package"}',
        '{"model": "package", "package_size": 0.5, "package_price": "1", "zero_usage": "one_package"}'),
    ('{"model":"matrix","cells":[{"tariff":{"model":"dynamic"},"match":{"b":"\u0041","a":"\""}}],"dimensions":["a","b"]}',
        '{"model": "matrix", "dimensions": ["a", "b"], "cells": [{"match": {"a": "\"", "b": "A"}, "tariff": {"model": "dynamic"}}]}')
) c (t, canonical);
SELECT ok('{"model":"per_unit","unit":0.10}'::billing.tariff OPERATOR(billing.=) '{"unit":"0.1","model":"per_unit"}',
    'equal in canonical form');
SELECT ok('{"model":"per_unit","unit":0.10}'::billing.tariff OPERATOR(billing.<>) '{"unit":"0.11","model":"per_unit"}',
    'different prices differ');
SELECT is(count(*), 1::bigint, 'GROUP BY hashes equal tariffs together')
FROM (SELECT t::billing.tariff FROM (VALUES ('{"model":"dynamic"}'), ('{"model":"dynamic","free_units":0}')) v (t) GROUP BY 1) g;
SELECT is('{"model":"dynamic","minimum":1}'::jsonb::billing.tariff::jsonb, '{"model":"dynamic","minimum":"1"}'::jsonb,
    'casts from and to jsonb');
CREATE TEMP TABLE stored (id int, tariff billing.tariff);
INSERT INTO stored SELECT 1, jsonb_build_object('model', 'dynamic');
SELECT is(tariff::text, '{"model": "dynamic"}', 'jsonb is assigned to a tariff column') FROM stored;

-- Short, plain, compressed and out of line: n tiers of 1 each with unit price n, all stored values give the same amount
INSERT INTO stored
SELECT n, jsonb_build_object('model', 'graduated', 'tiers', (
    SELECT jsonb_agg(jsonb_build_object('up_to', nullif(i, n), 'unit', i)) FROM generate_series(1, n) i))
FROM unnest('{2,4,100,1000}'::int[]) n;
ALTER TABLE stored ALTER tariff SET STORAGE EXTENDED;
INSERT INTO stored SELECT -id, tariff FROM stored WHERE id >= 100;
INSERT INTO stored SELECT 10000, tariff::text::billing.tariff FROM stored WHERE id = 1000;
SELECT is(sum(billing.rate(tariff, abs(id)::numeric)), (n * (n + 1) / 2 * 2)::numeric, format('%s tiers, read twice', n))
FROM stored, (VALUES (2), (4), (100), (1000)) v (n), generate_series(1, 2) WHERE id = n GROUP BY n ORDER BY n;
-- A quantity of 27 000 digits is stored out of line
CREATE TEMP TABLE large (quantity numeric);
ALTER TABLE large ALTER quantity SET STORAGE EXTERNAL;
INSERT INTO large SELECT repeat('123456789', 3000)::numeric;
SELECT is(billing.rate('{"model": "per_unit", "unit": "2"}', quantity), quantity * 2, 'a quantity out of line') FROM large;

SELECT is(sum(billing.rate(tariff, 100)), 5050 * 5::numeric, 'compressed, out of line, and side by side')
FROM stored WHERE abs(id) >= 100;

SELECT * FROM finish();
ROLLBACK;
