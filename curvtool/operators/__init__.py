"""The linear map: Hessian-vector products and what wraps them."""
