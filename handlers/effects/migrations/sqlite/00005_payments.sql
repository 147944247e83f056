-- +goose Up
ALTER TABLE orders ADD COLUMN lost_minor INTEGER;
ALTER TABLE orders ADD COLUMN lost_value TEXT;
ALTER TABLE points_orders ADD COLUMN lost_minor INTEGER;
ALTER TABLE points_orders ADD COLUMN lost_value TEXT;
ALTER TABLE order_refs ADD COLUMN related TEXT NOT NULL DEFAULT '[]';
ALTER TABLE points_order_refs ADD COLUMN related TEXT NOT NULL DEFAULT '[]';

-- +goose Down
ALTER TABLE points_order_refs DROP COLUMN related;
ALTER TABLE order_refs DROP COLUMN related;
ALTER TABLE points_orders DROP COLUMN lost_value;
ALTER TABLE points_orders DROP COLUMN lost_minor;
ALTER TABLE orders DROP COLUMN lost_value;
ALTER TABLE orders DROP COLUMN lost_minor;
