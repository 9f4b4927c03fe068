//! Real clients and servers, unmodified, that speak through the mesh.
