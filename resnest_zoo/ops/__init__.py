"""Operations on boxes, masks and pictures, free of any model."""
