-- What the messages of the outbox say about invoices and credit notes.

UPDATE billing.outbox_type SET payload_function = 'invoice_messages' WHERE kind IN ('invoice', 'credit_note');
